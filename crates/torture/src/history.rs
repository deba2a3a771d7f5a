//! What people did and what they were told: the log from which the checker judges.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kernel::Uuid;
use tonic::Code;

/// One operation of a person, from the call to the last word about it. An operation may have called
/// several times with the same request id: what counts is what it knew in the end.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    /// Its number in the log, from 0, in the order in which operations began.
    pub(crate) number: usize,
    /// Who: `customers/torture-3`, `drivers/torture-1`, `operators/torture`.
    pub(crate) who: String,
    /// What.
    pub(crate) what: What,
    /// Under which request id, when it was a command.
    pub(crate) request_id: Option<Uuid>,
    /// About which ride (the allocation's id), once that is known.
    pub(crate) ride: Option<Uuid>,
    /// How many won it asked for, when it named a sum.
    pub(crate) asked: Option<i64>,
    /// When it began, from the start of the run.
    pub(crate) from: Duration,
    /// When it ended.
    pub(crate) until: Duration,
    /// How often it called.
    pub(crate) attempts: u32,
    /// What came of it.
    pub(crate) outcome: Outcome,
}

/// The methods that people call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum What {
    RequestAllocation,
    CancelAllocation,
    GetAllocation,
    AcceptDriving,
    StartDriving,
    FinishDriving,
    GetDriving,
    GetDrivingInfo,
    SettlePayment,
    RefundPayment,
    GetPayment,
}

impl What {
    /// Whether it changes anything.
    pub(crate) fn is_command(self) -> bool {
        use What::{GetAllocation, GetDriving, GetDrivingInfo, GetPayment};
        !matches!(self, GetAllocation | GetDriving | GetDrivingInfo | GetPayment)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What came of an operation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// It was answered.
    Ok(Seen),
    /// It was refused for good: it must have had no effect.
    Failed {
        /// The status.
        code: Code,
        /// The stable reason.
        reason: String,
    },
    /// Nobody can tell: it may have had its effect, or may have it later.
    Unknown {
        /// The last status.
        code: Code,
        /// The last message.
        message: String,
    },
}

/// What an answer showed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Seen {
    /// The resource: `allocations/<id>`, `drivings/<id>`, `drivingInfos/<id>`, `payments/<id>`.
    pub(crate) resource: String,
    /// Its state, by the name of the contract's enum value, such as `APPROVED`.
    pub(crate) state: String,
    /// Its version for those who compare reads: the revision in the etag, or for the view the sum of
    /// the versions folded or the length of the timeline.
    pub(crate) version: i64,
    /// The fee in won, when it has one.
    pub(crate) fee: Option<i64>,
    /// The driver, when it has one.
    pub(crate) driver: Option<String>,
    /// The payment state of a driving, when it has one.
    pub(crate) payment_state: Option<String>,
    /// The answer as a whole, for comparing the answers of two calls with one request id.
    pub(crate) digest: String,
}

/// The log. Clones write to the same one.
#[derive(Clone, Debug)]
pub(crate) struct History {
    began: Instant,
    operations: Arc<Mutex<Vec<Operation>>>,
}

impl History {
    /// An empty log.
    pub(crate) fn new() -> History {
        History { began: Instant::now(), operations: Arc::default() }
    }

    /// How long the run has taken.
    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Begins an operation; until it is ended it is unknown.
    pub(crate) fn begin(
        &self,
        who: &str,
        what: What,
        request_id: Option<Uuid>,
        asked: Option<i64>,
    ) -> usize {
        let now = self.now();
        let mut operations = self.lock();
        let number = operations.len();
        operations.push(Operation {
            number,
            who: who.to_owned(),
            what,
            request_id,
            ride: None,
            asked,
            from: now,
            until: now,
            attempts: 0,
            outcome: Outcome::Unknown {
                code: Code::Unknown,
                message: "still under way".to_owned(),
            },
        });
        number
    }

    /// Ends an operation.
    pub(crate) fn end(&self, number: usize, ride: Option<Uuid>, attempts: u32, outcome: Outcome) {
        let now = self.now();
        if let Some(operation) = self.lock().get_mut(number) {
            operation.ride = ride;
            operation.attempts = attempts;
            operation.until = now;
            operation.outcome = outcome;
        }
    }

    /// All operations, in the order in which they began.
    pub(crate) fn operations(&self) -> Vec<Operation> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Operation>> {
        self.operations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
