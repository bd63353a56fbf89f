#include "kernel.cu"

#include "twins.h"

STTS_TWIN(group_score_float32);
STTS_TWIN(group_score_float16);
STTS_TWIN(group_score_bfloat16);
STTS_TWIN(group_score_float32_alone);
STTS_TWIN(group_score_float16_alone);
STTS_TWIN(group_score_bfloat16_alone);
