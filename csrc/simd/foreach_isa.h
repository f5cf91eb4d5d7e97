// Includes a file once per instruction set. No include guard: meant to be read several times.
//
//   #define OSF_FOREACH_ISA_FILE "cpu/<op>-inl.h"
//   #include "simd/foreach_isa.h"
//
// compiles the file with OSF_ISA = scalar, avx2, avx512 (scalar alone off x86), each inside the
// region that sets the target, after the vectors osf::<isa>::V. What the file includes, standard
// headers above all, must be included before: in a region it would be compiled for a processor that
// may not be there. OSF_ISA_TABLE (cpu/dispatch.h) makes the table of what came out.

#ifndef OSF_FOREACH_ISA_FILE
#error "define OSF_FOREACH_ISA_FILE before including simd/foreach_isa.h"
#endif

#include "simd/vec.h"

#define OSF_ISA scalar
#include "simd/vec_scalar.h"
//
#include "simd/for_vectors-inl.h"
#include "simd/silu-inl.h"
//
#include OSF_FOREACH_ISA_FILE
#undef OSF_ISA

#if OSF_X86
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#define OSF_ISA avx2
#include "simd/vec_avx2.h"
//
#include "simd/for_vectors-inl.h"
#include "simd/silu-inl.h"
//
#include OSF_FOREACH_ISA_FILE
#undef OSF_ISA
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")
#define OSF_ISA avx512
#include "simd/vec_avx512.h"
//
#include "simd/for_vectors-inl.h"
#include "simd/silu-inl.h"
//
#include OSF_FOREACH_ISA_FILE
#undef OSF_ISA
#pragma GCC pop_options
#endif

#undef OSF_FOREACH_ISA_FILE
