//! How much one caller gets: requests by address and by principal, connections and streams at the
//! same time.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use kernel::Rejection;
use platform::metrics::One;

use super::measure::{self, Limit};
use super::{GatewayConfig, Rate};

/// How many callers a limiter remembers one by one.
const REMEMBERED: usize = 100_000;
/// How many shares there are for callers beyond that.
const SHARES: u64 = 1024;
/// How often callers that are back at their full burst are forgotten.
const SWEEP: Duration = Duration::from_secs(10);

/// All limits.
pub(super) struct Limits {
    principals: Keyed,
    addresses: Keyed,
    streams: Slots,
    connections: Slots,
}

impl Limits {
    pub(super) fn new(config: &GatewayConfig) -> Limits {
        Limits {
            principals: Keyed::new(config.per_principal, REMEMBERED),
            addresses: Keyed::new(config.per_address, REMEMBERED),
            streams: Slots::new(config.streams_per_principal),
            connections: Slots::new(config.connections_per_address),
        }
    }

    /// One more request of a principal.
    pub(super) fn principal(&self, subject: &str) -> Result<(), Rejection> {
        self.principals.check(subject).map_err(|wait| {
            measure::refused(Limit::Principal);
            too_many("you", wait)
        })
    }

    /// One more request from an address.
    pub(super) fn address(&self, address: IpAddr) -> Result<(), Rejection> {
        self.addresses.check(network(address)).map_err(|wait| {
            measure::refused(Limit::Address);
            too_many("your address", wait)
        })
    }

    /// One more connection from an address, until the slot is dropped.
    pub(super) fn connection(&self, address: IpAddr) -> Option<Slot> {
        let slot = self.connections.take(&network(address).to_string());
        slot.or_else(|| {
            measure::refused(Limit::Connections);
            None
        })
    }

    /// One more stream of somebody who has not said who they are, until the slot is dropped.
    pub(super) fn stranger(&self, address: IpAddr) -> Result<Slot, Rejection> {
        self.stream(&format!("address {}", network(address)))
    }

    /// One more stream of somebody, until the slot is dropped.
    pub(super) fn stream(&self, of: &str) -> Result<Slot, Rejection> {
        let slot = self.streams.take(of);
        let counted = slot.map(|mut slot| {
            slot.counted = Some(measure::stream());
            slot
        });
        counted.ok_or_else(|| {
            measure::refused(Limit::Streams);
            let message = format!("at most {} streams at the same time", self.streams.most);
            Rejection::exhausted("TOO_MANY_STREAMS", message)
        })
    }
}

fn too_many(of: &str, wait: Duration) -> Rejection {
    Rejection::exhausted("RATE_LIMITED", format!("too many requests from {of}")).retry_after(wait)
}

/// Whoever has one address of IPv6 has a whole /64 of them.
fn network(address: IpAddr) -> IpAddr {
    const PREFIX: u128 = u128::MAX << 64;
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & PREFIX).into(),
    }
}

/// A rate for each key. It remembers hashes, a bounded number of them: who comes when it is full
/// shares a rate with others.
struct Keyed {
    limiter: DefaultKeyedRateLimiter<u64>,
    hashes: RandomState,
    clock: DefaultClock,
    remembered: usize,
    swept: Mutex<Instant>,
}

impl Keyed {
    fn new(rate: Rate, remembered: usize) -> Keyed {
        Keyed {
            limiter: RateLimiter::keyed(Quota::per_second(rate.per_second).allow_burst(rate.burst)),
            hashes: RandomState::new(),
            clock: DefaultClock::default(),
            remembered,
            swept: Mutex::new(Instant::now()),
        }
    }

    /// Allows one more, or tells how long to wait.
    fn check(&self, key: impl Hash) -> Result<(), Duration> {
        self.sweep();
        let hash = self.hashes.hash_one(key);
        let key = if self.limiter.len() < self.remembered { hash } else { hash % SHARES };
        let checked = self.limiter.check_key(&key);
        checked.map_err(|until| until.wait_time_from(self.clock.now()))
    }

    /// Forgets who is back at the full burst, which is as good as never seen.
    fn sweep(&self) {
        let Ok(mut swept) = self.swept.try_lock() else { return };
        if swept.elapsed() >= SWEEP {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
            *swept = Instant::now();
        }
    }
}

/// How many of something everybody has.
struct Slots {
    most: usize,
    taken: Arc<Mutex<HashMap<String, usize>>>,
}

impl Slots {
    fn new(most: usize) -> Slots {
        Slots { most, taken: Arc::default() }
    }

    fn take(&self, of: &str) -> Option<Slot> {
        let mut taken = lock(&self.taken);
        let count = taken.entry(of.to_owned()).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Slot { of: of.to_owned(), taken: self.taken.clone(), counted: None })
    }
}

/// One of somebody's, for as long as it is kept.
pub(crate) struct Slot {
    of: String,
    taken: Arc<Mutex<HashMap<String, usize>>>,
    counted: Option<One<0>>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        match taken.get_mut(&self.of) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                taken.remove(&self.of);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code panics while it holds one of these.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn once_a_second(remembered: usize) -> Keyed {
        Keyed::new(Rate { per_second: NonZeroU32::MIN, burst: NonZeroU32::MIN }, remembered)
    }

    #[test]
    fn everybody_has_a_rate_of_their_own() {
        let keyed = once_a_second(10);
        assert_eq!(keyed.check("a"), Ok(()));
        let wait = keyed.check("a").expect_err("too soon");
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1), "{wait:?}");
        assert_eq!(keyed.check("b"), Ok(()));
    }

    #[test]
    fn strangers_of_one_network_share_their_streams() {
        let limits = Limits::new(&GatewayConfig { streams_per_principal: 2, ..Default::default() });
        let stranger = |address: &str| limits.stranger(address.parse().expect("an address"));
        let _kept = (stranger("2001:db8::1").ok(), stranger("2001:db8::2").ok());
        let reason = stranger("2001:db8::3").err().map(|refused| refused.reason);
        assert_eq!(reason, Some("TOO_MANY_STREAMS"));
        assert!(stranger("2001:db8:0:1::1").is_ok());
    }

    #[test]
    fn a_crowd_takes_no_more_memory_than_there_is() {
        let keyed = once_a_second(10);
        for stranger in 0..100_000 {
            let _ = keyed.check(stranger);
        }
        assert!(keyed.limiter.len() <= 10 + SHARES as usize);
    }

    #[test]
    fn who_is_back_at_the_full_burst_is_forgotten() {
        const MANY: NonZeroU32 = NonZeroU32::MAX;
        let keyed = Keyed::new(Rate { per_second: MANY, burst: MANY }, 10);
        assert_eq!(keyed.check("a"), Ok(()));
        *lock(&keyed.swept) -= SWEEP;
        keyed.sweep();
        assert!(keyed.limiter.is_empty());
    }

    #[test]
    fn a_slot_is_free_again_when_it_is_dropped() {
        let slots = Slots::new(2);
        let (one, two) = (slots.take("a"), slots.take("a"));
        assert!(one.is_some() && two.is_some() && slots.take("a").is_none());
        assert!(slots.take("b").is_some());
        drop(one);
        assert!(slots.take("a").is_some());
        drop(two);
        assert!(lock(&slots.taken).is_empty());
    }

    #[test]
    fn a_network_of_ipv6_is_one_caller() {
        let network = |text: &str| network(text.parse().expect("an address"));
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8:0:1::1"), network("2001:db8::1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
    }
}
