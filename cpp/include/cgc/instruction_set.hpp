// Which instructions the kernels are run with: chosen once, when the first of them is asked for.
#pragma once

#include <string>

#include "cgc/types.hpp"

namespace cgc {

// `baseline` is what every machine of the architecture has (SSE2 on x86-64).
enum class InstructionSet { baseline, avx2, avx512, neon };

const char* name_of(InstructionSet set);

// Whether multiply and add can be one instruction, which rounds once: kernels that may use it do.
bool fuses_multiply_add(InstructionSet set);

// Those that this build has a version for and this machine can run, the fastest last.
View<const InstructionSet> available_instruction_sets();

// What runs: the fastest, or what the environment variable CGC_FAST_FORCE_ISA names.
// std::invalid_argument if it names nothing that is available.
InstructionSet instruction_set();

}  // namespace cgc
