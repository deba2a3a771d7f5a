//! What payment needs from outside, in its own words.

use std::time::Duration;

use kernel::{CustomerId, DrivingId, Money, Uuid};

/// What the provider is asked to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Under which the provider charges at most once, however often it is asked.
    pub key: Uuid,
    /// How much.
    pub amount: Money,
    /// From whom.
    pub customer: CustomerId,
    /// For what.
    pub driving: DrivingId,
}

/// What came of asking for a charge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The fee is taken.
    Approved {
        /// The provider's own name of the charge.
        reference: String,
    },
    /// The provider refuses: nothing was taken under this key, and never will be.
    Declined {
        /// Why, in the provider's words.
        reason: String,
    },
    /// This attempt has certainly not taken the fee.
    NotCharged,
    /// There was no answer that makes sense: the fee may have been taken.
    Unknown,
}

/// What the provider is asked to give back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refund {
    /// Under which the provider gives back at most once.
    pub key: Uuid,
    /// Of which charge.
    pub charge: Uuid,
    /// How much.
    pub amount: Money,
}

/// What came of asking for a refund.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefundVerdict {
    /// The money is given back.
    Refunded,
    /// The provider refuses, for good.
    Refused {
        /// Why, in the provider's words.
        reason: String,
    },
    /// Nobody knows, or nothing happened: to be asked again under the same key.
    Unknown,
}

/// Takes money from customers, and gives it back.
///
/// Every method waits for the answer this long at most.
#[async_trait::async_trait]
pub trait Provider: Send + Sync + 'static {
    /// Asks for one charge.
    async fn charge(&self, charge: &Charge, patience: Duration) -> Verdict;

    /// What became of a charge that was asked for before. `NotCharged` means that the provider knows
    /// none under this key: a request that is still on its way may change that.
    async fn look_up(&self, charge: &Charge, patience: Duration) -> Verdict;

    /// Asks to give back, wholly or in part, what a charge has taken.
    async fn refund(&self, refund: &Refund, patience: Duration) -> RefundVerdict;
}
