#include "kernel.cu"

#include "twins.h"

STTS_TWIN(pack_tokens_16);
STTS_TWIN(pack_tokens_8);
STTS_TWIN(pack_tokens_4);
STTS_TWIN(pack_tokens_2);
