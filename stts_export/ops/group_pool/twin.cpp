#include "kernel.cu"

#include "twins.h"

STTS_TWIN(group_pool_float32);
STTS_TWIN(group_pool_float16);
STTS_TWIN(group_pool_bfloat16);
STTS_TWIN(group_pool_float32_alone);
STTS_TWIN(group_pool_float16_alone);
STTS_TWIN(group_pool_bfloat16_alone);
