//! Finds a head among the heads of a node: how many of them are smaller.
//!
//! The heads are sorted, and unused ones are [`i32::MAX`], so the count of smaller heads is the
//! position of the first head that is not. Three comparisons choose a window of sixteen heads,
//! which are then all compared at once: a fixed number of steps and no branch that a random key
//! could mispredict.

use super::node::FANOUT;

/// Heads that are compared at once.
const WINDOW: usize = if FANOUT < 16 { FANOUT } else { 16 };

/// How many of `heads` are less than `head`.
#[inline(always)]
pub(super) fn count_less(heads: &[i32; FANOUT], head: i32) -> usize {
    let start = window_start(heads, head);
    let window: &[i32; WINDOW] =
        heads[start..start + WINDOW].try_into().expect("the slice has this length");
    #[cfg(target_arch = "x86_64")]
    {
        start + sse2::count_less(window, head)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        start + portable_count_less(window, head)
    }
}

/// The start of the window in which the position of `head` lies: every head before it is less.
#[inline(always)]
fn window_start(heads: &[i32; FANOUT], head: i32) -> usize {
    let mut windows = 0;
    let mut end = WINDOW;
    while end < FANOUT {
        windows += u32::from(heads[end - 1] < head);
        end += WINDOW;
    }
    (windows as usize * WINDOW).min(FANOUT - WINDOW)
}

/// The count for machines without SSE2; the tests hold both against each other.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn portable_count_less(window: &[i32; WINDOW], head: i32) -> usize {
    window.iter().map(|other| usize::from(*other < head)).sum()
}

#[cfg(target_arch = "x86_64")]
mod sse2 {
    //! The comparison of a window by vectors of four heads. SSE2 is part of the architecture.

    use std::arch::x86_64::{
        __m128i, _mm_cmpgt_epi32, _mm_loadu_si128, _mm_movemask_epi8, _mm_packs_epi16,
        _mm_packs_epi32, _mm_set1_epi32, _mm_setzero_si128,
    };

    use super::WINDOW;

    #[inline(always)]
    pub(super) fn count_less(window: &[i32; WINDOW], head: i32) -> usize {
        let (fours, _) = window.as_chunks::<4>();
        // SAFETY: SSE2 is part of x86-64; each load reads four heads inside the window, and needs
        // no alignment.
        unsafe {
            let wanted = _mm_set1_epi32(head);
            // All bits of a lane where its head is less.
            let less = |at: usize| -> __m128i {
                match fours.get(at) {
                    Some(four) => _mm_cmpgt_epi32(wanted, _mm_loadu_si128(four.as_ptr().cast())),
                    None => _mm_setzero_si128(),
                }
            };
            // Narrowed to one byte of a head, in their order. The heads that are less come first,
            // so the count is where the ones end.
            let low = _mm_packs_epi32(less(0), less(1));
            let high = _mm_packs_epi32(less(2), less(3));
            let bits = _mm_movemask_epi8(_mm_packs_epi16(low, high));
            bits.trailing_ones() as usize
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_way_of_counting_agrees(
            mut values in prop::collection::vec(
                prop_oneof![any::<i32>(), Just(i32::MIN), Just(i32::MAX), -3_i32..3], 0..=FANOUT),
            head in prop_oneof![any::<i32>(), Just(i32::MIN), Just(i32::MAX), -3_i32..3],
        ) {
            values.sort_unstable();
            let expected = values.iter().filter(|other| **other < head).count();
            values.resize(FANOUT, i32::MAX);
            let heads: [i32; FANOUT] = values.try_into().unwrap();
            prop_assert_eq!(count_less(&heads, head), expected);
            let start = window_start(&heads, head);
            let window = heads[start..start + WINDOW].try_into().unwrap();
            prop_assert_eq!(start + portable_count_less(window, head), expected);
        }
    }
}
