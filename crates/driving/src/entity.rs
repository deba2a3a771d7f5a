//! The row of a driving, and the mapping between the two.

use kernel::{
    Actor, AllocationId, CustomerId, DriverId, DrivingId, Money, PaymentId, Recorded, Rejection,
    Role, Timestamp, Uuid,
};
use platform::outbox::Publication;
use platform::store::{CorruptRow, Persist, PlaceColumns};
use sea_orm::entity::prelude::*;
use sea_orm::{Condition, Set};
use serde::{Deserialize, Serialize};

use crate::declines::declined_by;
use crate::domain::{
    Driving, Event, Filter, PaymentState, State, already_opened, driver_busy, not_found,
};
use crate::events;
use crate::fare::Fare;

/// The table of drivings.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel, Serialize, Deserialize)]
#[sea_orm(table_name = "driving")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub revision: i64,
    pub version: i64,
    /// Unique: one driving for each allocation.
    pub allocation: Uuid,
    pub customer: String,
    pub driver: Option<String>,
    /// Unique: one active driving for each driver.
    pub active_driver: Option<String>,
    pub state: String,
    pub pickup_address: Option<String>,
    pub pickup_latitude: Option<f64>,
    pub pickup_longitude: Option<f64>,
    pub destination_address: String,
    pub destination_latitude: Option<f64>,
    pub destination_longitude: Option<f64>,
    pub start_time: Option<i64>,
    pub finish_time: Option<i64>,
    pub fare: Option<i64>,
    pub fare_minutes: Option<i64>,
    pub fare_rate: Option<i64>,
    pub fare_policy_version: Option<String>,
    pub payment: Option<Uuid>,
    pub payment_state: Option<String>,
    pub cancel_reason: String,
    pub create_time: i64,
    pub update_time: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Persist for Driving {
    type Entity = Entity;

    fn from_row(row: Model) -> Result<Recorded<Driving>, CorruptRow> {
        let fare = parse_fare(&row)?;
        let payment_state = row.payment_state.as_deref().map(parse_payment_state).transpose()?;
        let pickup =
            PlaceColumns(row.pickup_address, row.pickup_latitude, row.pickup_longitude).place()?;
        let destination = PlaceColumns(
            Some(row.destination_address),
            row.destination_latitude,
            row.destination_longitude,
        );
        Ok(Recorded {
            aggregate: Driving {
                id: DrivingId(row.id),
                allocation: AllocationId(row.allocation),
                customer: CustomerId::from_subject(row.customer),
                driver: row.driver.map(DriverId::from_subject),
                pickup,
                destination: destination.place()?.ok_or(CorruptRow("no destination".into()))?,
                state: parse_state(&row.state)?,
                start_time: row.start_time.map(Timestamp::from_micros),
                finish_time: row.finish_time.map(Timestamp::from_micros),
                fare,
                payment: row.payment.map(PaymentId),
                payment_state,
                cancel_reason: row.cancel_reason,
            },
            revision: row.revision,
            version: row.version,
            create_time: Timestamp::from_micros(row.create_time),
            update_time: Timestamp::from_micros(row.update_time),
        })
    }

    fn to_row(recorded: &Recorded<Driving>) -> ActiveModel {
        let driving = &recorded.aggregate;
        let pickup = PlaceColumns::of(driving.pickup.as_ref());
        let destination = PlaceColumns::of(Some(&driving.destination));
        let subject = |driver: &DriverId| driver.subject().to_owned();
        let fare = driving.fare.as_ref();
        ActiveModel {
            id: Set(driving.id.0),
            revision: Set(recorded.revision),
            version: Set(recorded.version),
            allocation: Set(driving.allocation.0),
            customer: Set(driving.customer.subject().to_owned()),
            driver: Set(driving.driver.as_ref().map(subject)),
            active_driver: Set(driving.active_driver().map(subject)),
            state: Set(state_name(driving.state).to_owned()),
            pickup_address: Set(pickup.0),
            pickup_latitude: Set(pickup.1),
            pickup_longitude: Set(pickup.2),
            destination_address: Set(destination.0.unwrap_or_default()),
            destination_latitude: Set(destination.1),
            destination_longitude: Set(destination.2),
            start_time: Set(driving.start_time.map(Timestamp::micros)),
            finish_time: Set(driving.finish_time.map(Timestamp::micros)),
            fare: Set(fare.map(|fare| fare.amount.as_won())),
            fare_minutes: Set(fare.map(|fare| fare.minutes)),
            fare_rate: Set(fare.map(|fare| fare.rate.as_won())),
            fare_policy_version: Set(fare.map(|fare| fare.policy_version.clone())),
            payment: Set(driving.payment.map(|payment| payment.0)),
            payment_state: Set(driving
                .payment_state
                .map(|state| payment_state_name(state).to_owned())),
            cancel_reason: Set(driving.cancel_reason.clone()),
            create_time: Set(recorded.create_time.micros()),
            update_time: Set(recorded.update_time.micros()),
        }
    }

    fn visible_to(actor: &Actor) -> Condition {
        match actor.role {
            Role::Customer => Condition::all().add(Column::Customer.eq(&actor.subject)),
            Role::Driver => {
                let open = Condition::all()
                    .add(Column::State.eq(state_name(State::Requested)))
                    .add(Column::Id.not_in_subquery(declined_by(&actor.subject)));
                Condition::any().add(Column::Driver.eq(&actor.subject)).add(open)
            }
            Role::Operator | Role::Service => Condition::all(),
        }
    }

    /// A driver who comes too late is told so: the decision says why.
    fn open_to(&self, actor: &Actor) -> bool {
        match actor.role {
            Role::Customer => self.customer.subject() == actor.subject,
            Role::Driver | Role::Operator | Role::Service => true,
        }
    }

    fn matching(filter: &Filter) -> Condition {
        let states = filter.states.iter().map(|state| state_name(*state));
        let not_cancelled = Column::State.ne(state_name(State::Cancelled));
        Condition::all()
            .add_option((!filter.states.is_empty()).then(|| Column::State.is_in(states)))
            .add_option(filter.without_cancelled.then_some(not_cancelled))
            .add_option(filter.allocation.map(|allocation| Column::Allocation.eq(allocation.0)))
    }

    fn not_found(id: Uuid) -> Rejection {
        not_found(DrivingId(id))
    }

    fn conflict(constraint: &str) -> Option<Rejection> {
        if constraint.contains("active_driver") {
            return Some(driver_busy());
        }
        constraint.contains("allocation").then(already_opened)
    }

    fn publication(recorded: &Recorded<Driving>, event: &Event) -> Publication {
        events::publication(recorded, event)
    }
}

fn parse_fare(row: &Model) -> Result<Option<Fare>, CorruptRow> {
    let columns = (row.fare, row.fare_minutes, row.fare_rate, &row.fare_policy_version);
    match columns {
        (None, None, None, None) => Ok(None),
        (Some(amount), Some(minutes), Some(rate), Some(policy_version)) => Ok(Some(Fare {
            amount: Money::won(amount),
            minutes,
            rate: Money::won(rate),
            policy_version: policy_version.clone(),
        })),
        _ => Err(CorruptRow(format!("fare {columns:?}"))),
    }
}

const STATES: [(State, &str); 5] = [
    (State::Requested, "REQUESTED"),
    (State::Approved, "APPROVED"),
    (State::Started, "STARTED"),
    (State::Finished, "FINISHED"),
    (State::Cancelled, "CANCELLED"),
];

fn state_name(state: State) -> &'static str {
    STATES.iter().find(|(known, _)| *known == state).map_or("", |(_, name)| name)
}

fn parse_state(name: &str) -> Result<State, CorruptRow> {
    let known = STATES.iter().find(|(_, known)| *known == name);
    known.map(|(state, _)| *state).ok_or_else(|| CorruptRow(format!("state {name}")))
}

const PAYMENT_STATES: [(PaymentState, &str); 5] = [
    (PaymentState::Pending, "PENDING"),
    (PaymentState::Approved, "APPROVED"),
    (PaymentState::Declined, "DECLINED"),
    (PaymentState::Deferred, "DEFERRED"),
    (PaymentState::Refunded, "REFUNDED"),
];

fn payment_state_name(state: PaymentState) -> &'static str {
    PAYMENT_STATES.iter().find(|(known, _)| *known == state).map_or("", |(_, name)| name)
}

fn parse_payment_state(name: &str) -> Result<PaymentState, CorruptRow> {
    let known = PAYMENT_STATES.iter().find(|(_, known)| *known == name);
    known.map(|(state, _)| *state).ok_or_else(|| CorruptRow(format!("payment state {name}")))
}
