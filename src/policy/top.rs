//! Who comes most often of more than can be remembered: the Space-Saving counter of Metwally, Agrawal and El Abbadi (2005).
//!
//! Exact until more different networks were counted than there are places. Then a count is an upper bound, too high by no more than the
//! smallest count, which is at most one in so many of all; and whoever has come more often than that is there.
#![forbid(unsafe_code)]

use super::least::least;
use super::network::Network;
use std::cmp::Reverse;

/// The counts.
#[derive(Clone, Debug)]
pub struct Top<const PLACES: usize> {
    /// Short words for the networks, so that one is found without a look at all of them.
    tags: [u32; PLACES],
    counts: [u64; PLACES],
    /// What each count was when its network came to have the place of another.
    before: [u64; PLACES],
    networks: Vec<Network>,
}

impl<const PLACES: usize> Default for Top<PLACES> {
    fn default() -> Self {
        Top { tags: [0; PLACES], counts: [0; PLACES], before: [0; PLACES], networks: Vec::new() }
    }
}

impl<const PLACES: usize> Top<PLACES> {
    /// Counts one.
    pub fn add(&mut self, network: Network) {
        self.add_many(network, 1);
    }

    /// Counts so many.
    pub fn add_many(&mut self, network: Network, times: u64) {
        let tag = network.tag();
        let used = self.networks.len();
        let mut same = self.tags[..used].iter().enumerate().filter(|(_, other)| **other == tag);
        if let Some((at, _)) = same.find(|(at, _)| self.networks[*at] == network) {
            self.counts[at] += times;
            return;
        }
        let at = match used < PLACES {
            true => {
                self.networks.push(network);
                used
            }
            false => {
                let least = self.counts.iter().enumerate().min_by_key(|(_, count)| **count);
                let at = least.map_or(0, |(at, _)| at);
                self.networks[at] = network;
                self.before[at] = self.counts[at];
                at
            }
        };
        self.tags[at] = tag;
        self.counts[at] += times;
    }

    /// How often this one was counted; 0 if it is none of those that are remembered.
    pub fn count(&self, network: Network) -> u64 {
        self.networks.iter().position(|other| *other == network).map_or(0, |at| self.counts[at])
    }

    /// Those that came most often, and how often, the first of them first.
    pub fn most(&self, how_many: usize) -> Vec<(Network, u64)> {
        self.first(how_many, |at| self.counts[at])
    }

    /// The same, with how often each of them came at least: all of these together are never more than were counted.
    pub fn surely(&self, how_many: usize) -> Vec<(Network, u64)> {
        self.first(how_many, |at| self.counts[at] - self.before[at])
    }

    fn first(&self, how_many: usize, count: impl Fn(usize) -> u64) -> Vec<(Network, u64)> {
        let places = (0..self.networks.len()).map(|at| (Reverse(count(at)), at));
        least(places, how_many).into_iter().map(|(Reverse(count), at)| (self.networks[at], count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const PLACES: usize = 64;

    fn network(nth: u32) -> Network {
        format!("192.0.{}.{}", nth >> 8, nth & 255).parse().unwrap()
    }

    proptest! {
        /// What the algorithm guarantees, beside a model that forgets nobody.
        #[test]
        fn a_count_is_never_too_low_and_who_comes_often_is_there(
            comes in prop::collection::vec(prop_oneof![0..4u32, 0..70u32, 0..400u32], 0..2000)
        ) {
            let (mut top, mut model) = (Top::<PLACES>::default(), HashMap::<u32, u64>::new());
            for nth in &comes {
                top.add(network(*nth));
                *model.entry(*nth).or_default() += 1;
            }
            let least = if model.len() < PLACES { 0 } else { top.most(PLACES).last().unwrap().1 };
            prop_assert!(least <= comes.len() as u64 / PLACES as u64);
            prop_assert_eq!(top.most(PLACES).iter().map(|(_, count)| count).sum::<u64>(), comes.len() as u64);
            for (network, surely) in top.surely(PLACES) {
                let count = *model.iter().find(|(nth, _)| super::tests::network(**nth) == network).unwrap().1;
                prop_assert!((1..=count).contains(&surely) && (surely == count || model.len() > PLACES));
            }
            for (nth, count) in &model {
                let told = top.count(network(*nth));
                if model.len() <= PLACES {
                    prop_assert_eq!(told, *count);
                } else if told > 0 {
                    prop_assert!((*count..=count + least).contains(&told));
                } else {
                    prop_assert!(*count <= least, "{} came {} times", nth, count);
                }
            }
        }
    }
}
