//! What payment needs from outside, in its own words.

use std::time::Duration;

use kernel::{CustomerId, DrivingId, Money, Uuid};

use crate::domain::Payment;

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

impl From<&Payment> for Charge {
    fn from(payment: &Payment) -> Charge {
        Charge {
            key: payment.charge_key(),
            amount: payment.fee.amount,
            customer: payment.fee.customer.clone(),
            driving: payment.fee.driving,
        }
    }
}

/// What came of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The fee is taken.
    Approved {
        /// The provider's own name of the charge.
        reference: String,
    },
    /// The provider refuses.
    Declined {
        /// Why, in the provider's words.
        reason: String,
    },
    /// This attempt has certainly not taken the fee.
    NotCharged,
    /// There was no answer that makes sense: the fee may have been taken.
    Unknown,
}

/// Takes money from customers.
#[async_trait::async_trait]
pub trait Provider: Send + Sync + 'static {
    /// Asks for one charge and waits this long for the answer.
    async fn charge(&self, charge: &Charge, patience: Duration) -> Verdict;
}
