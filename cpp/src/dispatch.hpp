// One text of each kernel, compiled once for every instruction set.
//
// A text is a struct with a member  template <int Bytes> CGC_INLINE static R run(A...)  , where Bytes is the
// size of a vector register. It and all that it calls are inlined into functions of each instruction set and
// take on what those may use; nothing is left that a linker could pick the wrong version of. The order of
// operations does not depend on Bytes. Unless a file is compiled with leave to fuse multiply and add, which
// only some instruction sets can, all versions return the same bits.
#pragma once

#include <cstring>
#include <type_traits>

#include "cgc/instruction_set.hpp"

#define CGC_INLINE [[gnu::always_inline]] inline

namespace cgc {

// For tests, which run every version in one process: from now on `set`, which must be available. No kernel
// may run meanwhile.
void use_instruction_set(InstructionSet set);

template <class Text, class Signature>
struct Versions;

template <class Text, class Result, class... Arguments>
struct Versions<Text, Result(Arguments...)> {
    static Result run(Arguments... arguments) {
        switch (instruction_set()) {
#if defined(__x86_64__)
#if !defined(CGC_WITHOUT_AVX512)
            case InstructionSet::avx512:
                return avx512(arguments...);
#endif
            case InstructionSet::avx2:
                return avx2(arguments...);
#elif defined(__aarch64__)
            case InstructionSet::neon:
                return neon(arguments...);
#endif
            default:
                return baseline(arguments...);
        }
    }

  private:
#if defined(__x86_64__)
    static Result baseline(Arguments... arguments) { return Text::template run<16>(arguments...); }
    [[gnu::target("avx2,fma")]] static Result avx2(Arguments... arguments) {
        return Text::template run<32>(arguments...);
    }
#if !defined(CGC_WITHOUT_AVX512)
    [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl")]] static Result avx512(Arguments... arguments) {
        return Text::template run<64>(arguments...);
    }
#endif
#else
    static Result baseline(Arguments... arguments) { return Text::template run<8>(arguments...); }
#if defined(__aarch64__)
    static Result neon(Arguments... arguments) { return Text::template run<16>(arguments...); }
#endif
#endif
};

// Whether the version with registers of so many bytes can multiply and add in one instruction, and this build
// lets it.
template <int Bytes>
inline constexpr bool fuses =
#if !defined(CGC_FUSE)
    false;
#elif defined(__FMA__) || defined(__aarch64__)
    true;
#else
    Bytes > 16;
#endif

// As many values as fill a register. Never passed or returned by value: how is not the same everywhere.
template <class T, int Bytes>
struct RegisterOf {
    typedef T type __attribute__((vector_size(Bytes)));
};

template <class T, int Bytes>
using Register = typename RegisterOf<T, Bytes>::type;

// From any address; float values may be widened on the way.
template <class T, int Bytes, class From>
CGC_INLINE void load(Register<T, Bytes>& vector, const From* from) {
    if constexpr (std::is_same_v<T, From>) {
        std::memcpy(&vector, from, Bytes);
    } else {
        Register<From, Bytes / 2> narrow;
        std::memcpy(&narrow, from, Bytes / 2);
        vector = __builtin_convertvector(narrow, Register<T, Bytes>);
    }
}

template <int Bytes, class T>
CGC_INLINE void store(T* to, const Register<T, Bytes>& vector) {
    std::memcpy(to, &vector, Bytes);
}

}  // namespace cgc
