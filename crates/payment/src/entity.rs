//! The row of a payment, and the mapping between the two.

use kernel::{Actor, AllocationId, CustomerId, DrivingId, Failure, Money, PaymentId, Recorded};
use kernel::{Rejection, Role, Timestamp, Uuid};
use platform::db::{Db, failure};
use platform::outbox::Publication;
use platform::store::{CorruptRow, Persist};
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::InsertStatement;
use sea_orm::{Condition, QueryOrder, QuerySelect, Set};
use serde::{Deserialize, Serialize};

use crate::domain::{Claim, Event, Fee, Filter, Payment, Refund, State, payment_exists};
use crate::{events, ledger};

/// The table of payments.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, Serialize, Deserialize)]
#[sea_orm(table_name = "payment")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub revision: i64,
    pub version: i64,
    /// Unique: one payment per driving for ever.
    pub driving: Uuid,
    pub allocation: Uuid,
    pub customer: String,
    pub amount: i64,
    pub state: String,
    pub claim: Option<Uuid>,
    pub claim_time: Option<i64>,
    pub attempt_count: i32,
    pub next_attempt_time: Option<i64>,
    /// When the reconciler has to look after it.
    pub due_time: Option<i64>,
    pub in_doubt: bool,
    pub deferral_announced: bool,
    pub provider_reference: String,
    pub decline_reason: String,
    pub refunded_amount: i64,
    pub approve_time: Option<i64>,
    pub create_time: i64,
    pub update_time: i64,
    #[serde(default = "first")]
    pub charge_number: i32,
    /// The key of the refund that is under way; the next columns belong to it.
    pub refund: Option<Uuid>,
    pub refund_amount: Option<i64>,
    pub refund_reason: Option<String>,
    pub refund_attempt_count: Option<i32>,
}

/// The charge number in answers that were kept when every payment had one charge.
fn first() -> i32 {
    1
}

impl Model {
    fn refund(&self) -> Result<Option<Refund>, CorruptRow> {
        let Some(key) = self.refund else { return Ok(None) };
        let missing = || CorruptRow(format!("refund {key}"));
        Ok(Some(Refund {
            key,
            amount: self.refund_amount.map(Money::won).ok_or_else(missing)?,
            reason: self.refund_reason.clone().ok_or_else(missing)?,
            attempt_count: self.refund_attempt_count.ok_or_else(missing)?.unsigned_abs(),
        }))
    }
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// The payments somebody has to look after now, at most this many, those that wait longest first.
pub(crate) async fn due(db: &Db, now: Timestamp, most: u64) -> Result<Vec<PaymentId>, Failure> {
    let ids: Vec<Uuid> = Entity::find()
        .select_only()
        .column(Column::Id)
        .filter(Column::DueTime.lte(now.micros()))
        .order_by_asc(Column::DueTime)
        .limit(most)
        .into_tuple()
        .all(db.reader())
        .await
        .map_err(failure)?;
    Ok(ids.into_iter().map(PaymentId).collect())
}

impl Persist for Payment {
    type Entity = Entity;

    fn from_row(row: Model) -> Result<Recorded<Payment>, CorruptRow> {
        let claim_time = row.claim_time.map(Timestamp::from_micros);
        let refund = row.refund()?;
        Ok(Recorded {
            aggregate: Payment {
                id: PaymentId(row.id),
                fee: Fee {
                    driving: DrivingId(row.driving),
                    allocation: AllocationId(row.allocation),
                    customer: CustomerId::from_subject(row.customer),
                    amount: Money::won(row.amount),
                },
                state: parse_state(&row.state)?,
                claim: row.claim.zip(claim_time).map(|(id, time)| Claim { id, time }),
                attempt_count: row.attempt_count.unsigned_abs(),
                charge_number: row.charge_number.unsigned_abs(),
                next_attempt_time: row.next_attempt_time.map(Timestamp::from_micros),
                in_doubt: row.in_doubt,
                deferral_announced: row.deferral_announced,
                provider_reference: row.provider_reference,
                decline_reason: row.decline_reason,
                refunded_amount: Money::won(row.refunded_amount),
                refund,
                approve_time: row.approve_time.map(Timestamp::from_micros),
            },
            revision: row.revision,
            version: row.version,
            create_time: Timestamp::from_micros(row.create_time),
            update_time: Timestamp::from_micros(row.update_time),
        })
    }

    fn to_row(recorded: &Recorded<Payment>) -> ActiveModel {
        let payment = &recorded.aggregate;
        let refund = payment.refund.as_ref();
        ActiveModel {
            id: Set(payment.id.0),
            revision: Set(recorded.revision),
            version: Set(recorded.version),
            driving: Set(payment.fee.driving.0),
            allocation: Set(payment.fee.allocation.0),
            customer: Set(payment.fee.customer.subject().to_owned()),
            amount: Set(payment.fee.amount.as_won()),
            state: Set(state_name(payment.state).to_owned()),
            claim: Set(payment.claim.map(|claim| claim.id)),
            claim_time: Set(payment.claim.map(|claim| claim.time.micros())),
            attempt_count: Set(payment.attempt_count.cast_signed()),
            next_attempt_time: Set(payment.next_attempt_time.map(Timestamp::micros)),
            due_time: Set(payment.due_time().map(Timestamp::micros)),
            in_doubt: Set(payment.in_doubt),
            deferral_announced: Set(payment.deferral_announced),
            provider_reference: Set(payment.provider_reference.clone()),
            decline_reason: Set(payment.decline_reason.clone()),
            refunded_amount: Set(payment.refunded_amount.as_won()),
            approve_time: Set(payment.approve_time.map(Timestamp::micros)),
            create_time: Set(recorded.create_time.micros()),
            update_time: Set(recorded.update_time.micros()),
            charge_number: Set(payment.charge_number.cast_signed()),
            refund: Set(refund.map(|refund| refund.key)),
            refund_amount: Set(refund.map(|refund| refund.amount.as_won())),
            refund_reason: Set(refund.map(|refund| refund.reason.clone())),
            refund_attempt_count: Set(refund.map(|refund| refund.attempt_count.cast_signed())),
        }
    }

    fn visible_to(actor: &Actor) -> Condition {
        match actor.role {
            Role::Customer => Condition::all().add(Column::Customer.eq(&actor.subject)),
            Role::Driver => Condition::all().add(Expr::cust("1 = 0")),
            Role::Operator | Role::Service => Condition::all(),
        }
    }

    fn open_to(&self, actor: &Actor) -> bool {
        match actor.role {
            Role::Customer => self.fee.customer.subject() == actor.subject,
            Role::Driver => false,
            Role::Operator | Role::Service => true,
        }
    }

    fn matching(filter: &Filter) -> Condition {
        let states = filter.states.iter().map(|state| state_name(*state));
        Condition::all()
            .add_option((!filter.states.is_empty()).then(|| Column::State.is_in(states)))
            .add_option(filter.driving.map(|driving| Column::Driving.eq(driving.0)))
    }

    fn not_found(id: Uuid) -> Rejection {
        Rejection::not_found("PAYMENT_NOT_FOUND", PaymentId(id))
    }

    fn conflict(constraint: &str) -> Option<Rejection> {
        constraint.contains("driving").then(payment_exists)
    }

    fn publication(recorded: &Recorded<Payment>, event: &Event) -> Publication {
        events::publication(recorded, event)
    }

    fn beside(recorded: &Recorded<Payment>, event: &Event) -> Option<InsertStatement> {
        ledger::entry(recorded, event)
    }
}

const STATES: [(State, &str); 7] = [
    (State::Requested, "REQUESTED"),
    (State::InFlight, "IN_FLIGHT"),
    (State::Approved, "APPROVED"),
    (State::Deferred, "DEFERRED"),
    (State::Declined, "DECLINED"),
    (State::Unknown, "UNKNOWN"),
    (State::Refunded, "REFUNDED"),
];

fn state_name(state: State) -> &'static str {
    STATES.iter().find(|(known, _)| *known == state).map_or("", |(_, name)| name)
}

fn parse_state(name: &str) -> Result<State, CorruptRow> {
    let known = STATES.iter().find(|(_, known)| *known == name);
    known.map(|(state, _)| *state).ok_or_else(|| CorruptRow(format!("state {name}")))
}
