// One source, several instruction sets. Every x.cpp of this room is compiled once per instruction set, with TAEL_ISA
// set to the namespace its functions live in (portable, avx2, avx512); the portable compilation also defines the public
// chooser that the header promises:
//
//   namespace tael::TAEL_ISA { void swiglu_forward(const Stream&, const SwigluForward<float>&) { ... } }
//   TAEL_KERNEL(swiglu_forward, SwigluForward<float>)
//
// NOTES: code shared between the compilations must be TAEL_INLINE (base/view.hpp) or live in the namespace
// tael::TAEL_ISA. An ordinary inline function would be emitted once per instruction set under one name, and the
// linker would be free to keep the AVX-512 copy for a machine that has none. A test looks for such symbols.
#pragma once

#include "base/stream.hpp"
#include "base/view.hpp"

#ifndef TAEL_ISA
#define TAEL_ISA portable
#define TAEL_ISA_PORTABLE 1
#endif

// For lambdas in code that is compiled under several instruction sets: [&](int i) TAEL_INLINE_LAMBDA { ... }
#define TAEL_INLINE_LAMBDA __attribute__((always_inline))

namespace tael {

// The type that sums are kept in: float for the narrow formats, otherwise the type itself, so that a recording scalar
// of the tests passes through the reference templates.
template <class T>
struct Accumulate {
  using type = T;
};
template <class T>
using acc_t = typename Accumulate<T>::type;

}  // namespace tael

#if defined(TAEL_ONLY_PORTABLE)  // a processor that is not an x86: machine_has() knows no other
#define TAEL_KERNEL(name, ...)                               \
  namespace tael {                                           \
  void name(const Stream& stream, const __VA_ARGS__& args) { \
    stream.enqueue([&] { portable::name(stream, args); });   \
  }                                                          \
  }
#elif defined(TAEL_ISA_PORTABLE)
#define TAEL_KERNEL(name, ...)                                                           \
  namespace tael {                                                                       \
  namespace avx2 {                                                                       \
  void name(const Stream& stream, const __VA_ARGS__& args);                              \
  }                                                                                      \
  namespace avx512 {                                                                     \
  void name(const Stream& stream, const __VA_ARGS__& args);                              \
  }                                                                                      \
  void name(const Stream& stream, const __VA_ARGS__& args) {                             \
    switch (stream.isa()) {                                                              \
      case Isa::portable: stream.enqueue([&] { portable::name(stream, args); }); return; \
      case Isa::avx2: stream.enqueue([&] { avx2::name(stream, args); }); return;         \
      case Isa::avx512: stream.enqueue([&] { avx512::name(stream, args); }); return;     \
    }                                                                                    \
  }                                                                                      \
  }
#else
#define TAEL_KERNEL(name, ...)
#endif
