//! Functions compiled for every instruction set, and for every element, and the one for this processor.

/// Compiles a function that is generic over [`Simd`](crate::simd::Simd), and perhaps over the element, for an instruction
/// set and calls it. The call is unsafe: the [`Isa`](crate::simd::Isa) vouches for the instruction set, the caller for the
/// rest of the function's contract.
///
/// Elements are named here, so that this crate compiles such a function and not each that uses it.
macro_rules! dispatch {
    ($isa:expr, $function:ident($($argument:ident: $type:ty),*)) => {{
        let function: unsafe fn($($type),*) =
            crate::dispatch::dispatch!(@ $isa, $function [] ($($argument: $type),*));
        function($($argument),*)
    }};
    ($isa:expr, $function:ident<$element:ident: Element>($($argument:ident: $type:ty),*)) => {{
        struct PerSet(crate::simd::Isa);

        impl crate::element::PerElement for PerSet {
            type Of<$element: 'static> = unsafe fn($($type),*);

            fn of_f32(self) -> Self::Of<f32> {
                type $element = f32;
                crate::dispatch::dispatch!(@ self.0, $function [, $element] ($($argument: $type),*))
            }

            fn of_bf16(self) -> Self::Of<half::bf16> {
                type $element = half::bf16;
                #[cfg(target_arch = "x86_64")]
                #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
                unsafe fn avx512_bf16($($argument: $type),*) {
                    // SAFETY: the caller's contract is the same.
                    unsafe { $function::<crate::simd::Avx512Bf16, $element>($($argument),*) }
                }
                match crate::simd::Isa::set(self.0) {
                    #[cfg(target_arch = "x86_64")]
                    crate::simd::InstructionSet::Avx512Bf16 => avx512_bf16,
                    _ => crate::dispatch::dispatch!(
                        @ self.0, $function [, $element] ($($argument: $type),*)
                    ),
                }
            }
        }

        $element::choose(PerSet($isa))($($argument),*)
    }};
    (@ $isa:expr, $function:ident [$($types:tt)*] ($($argument:ident: $type:ty),*)) => {{
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f")]
        unsafe fn avx512($($argument: $type),*) {
            // SAFETY: the caller's contract is the same.
            unsafe { $function::<crate::simd::Avx512 $($types)*>($($argument),*) }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2($($argument: $type),*) {
            // SAFETY: the caller's contract is the same.
            unsafe { $function::<crate::simd::Avx2 $($types)*>($($argument),*) }
        }
        match crate::simd::Isa::set($isa) {
            #[cfg(target_arch = "x86_64")]
            crate::simd::InstructionSet::Avx512Bf16 | crate::simd::InstructionSet::Avx512 => avx512,
            #[cfg(target_arch = "x86_64")]
            crate::simd::InstructionSet::Avx2 => avx2,
            #[cfg(target_arch = "aarch64")]
            crate::simd::InstructionSet::Neon => $function::<crate::simd::Neon $($types)*>,
            _ => $function::<crate::simd::Portable $($types)*>,
        }
    }};
}

pub(crate) use dispatch;
