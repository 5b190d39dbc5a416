//! The first few of many, for lists that are told page by page: they are looked at once each, and no more are kept than are asked for.
#![forbid(unsafe_code)]

use std::collections::BinaryHeap;

/// The `count` least of these, in order; all of them, if there are fewer.
pub fn least<T: Ord>(all: impl Iterator<Item = T>, count: usize) -> Vec<T> {
    let mut kept = BinaryHeap::new();
    for one in all {
        if kept.len() < count {
            kept.push(one);
        } else if let Some(mut most) = kept.peek_mut().filter(|most| one < **most) {
            *most = one;
        }
    }
    kept.into_sorted_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn like_sorting_all_and_taking_some(all in proptest::collection::vec(0..9u8, 0..20), count in 0..22usize) {
            let mut sorted = all.clone();
            sorted.sort();
            sorted.truncate(count);
            prop_assert_eq!(least(all.into_iter(), count), sorted);
        }
    }
}
