//! What driving needs of its neighbours, in its own words.

use std::future::Future;
use std::time::Duration;

use crate::domain::{Charge, Fee};

/// Who takes the fee.
pub trait Payments: Send + Sync + 'static {
    /// Takes the fee, once for each driving however often it is asked, and answers within this time.
    ///
    /// There is no error. A ride that has ended stays ended, so **the fallback is a business
    /// decision**: whatever keeps the fee from being taken now, it will be taken a bit later, and
    /// that is [`Charge::Deferred`].
    fn charge(&self, fee: &Fee, within: Duration) -> impl Future<Output = Charge> + Send;
}
