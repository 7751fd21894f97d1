#include "cgc/instruction_set.hpp"

#include <cstdlib>
#include <stdexcept>

#include "dispatch.hpp"

namespace cgc {

namespace {

#if defined(__x86_64__) && defined(CGC_WITHOUT_AVX512)
constexpr InstructionSet kBuilt[] = {InstructionSet::baseline, InstructionSet::avx2};
#elif defined(__x86_64__)
constexpr InstructionSet kBuilt[] = {InstructionSet::baseline, InstructionSet::avx2, InstructionSet::avx512};
#elif defined(__aarch64__)
constexpr InstructionSet kBuilt[] = {InstructionSet::baseline, InstructionSet::neon};
#else
constexpr InstructionSet kBuilt[] = {InstructionSet::baseline};
#endif

// Each contains the one before, so what a machine can run is the beginning of kBuilt.
std::size_t count_available() {
#if defined(__x86_64__)
    if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))) return 1;
    if (!(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")))
        return 2;
#endif
    return std::size(kBuilt);
}

InstructionSet choose(const char* forced) {
    const auto available = available_instruction_sets();
    if (forced == nullptr) return available.back();
    std::string names;
    for (const InstructionSet set : available) {
        if (forced == std::string(name_of(set))) return set;
        names.append(names.empty() ? "" : ", ").append(name_of(set));
    }
    throw std::invalid_argument("CGC_FAST_FORCE_ISA: expected one of " + names +
                                ", which this machine has, got '" + forced + "'; unset it to have the last");
}

InstructionSet& active() {
    static InstructionSet set = choose(std::getenv("CGC_FAST_FORCE_ISA"));
    return set;
}

}  // namespace

const char* name_of(InstructionSet set) {
    switch (set) {
        case InstructionSet::avx2:
            return "avx2";
        case InstructionSet::avx512:
            return "avx512";
        case InstructionSet::neon:
            return "neon";
        default:
            return "baseline";
    }
}

bool fuses_multiply_add(InstructionSet set) {
    switch (set) {
        case InstructionSet::avx2:
            return fuses<32>;
        case InstructionSet::avx512:
            return fuses<64>;
        default:
            return fuses<16>;
    }
}

View<const InstructionSet> available_instruction_sets() {
    static const std::size_t count = count_available();
    return {kBuilt, count};
}

InstructionSet instruction_set() { return active(); }

void use_instruction_set(InstructionSet set) { active() = set; }

}  // namespace cgc
