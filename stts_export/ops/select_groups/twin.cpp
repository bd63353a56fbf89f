#include "kernel.cu"

#include "twins.h"

STTS_TWIN(select_groups);
