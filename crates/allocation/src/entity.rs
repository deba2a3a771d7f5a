//! The row of an allocation, and the mapping between the two.

use std::collections::HashMap;

use kernel::{Actor, AllocationId, CustomerId, DriverId, DrivingId, Recorded, Rejection, Role};
use kernel::{Timestamp, Uuid};
use platform::outbox::Publication;
use platform::store::{CorruptRow, Persist, PlaceColumns};
use sea_orm::entity::prelude::*;
use sea_orm::{Condition, DatabaseTransaction, Set};
use serde::{Deserialize, Serialize};

use crate::domain::{
    Allocation, Debtors, Event, Filter, Language, State, open_allocation_exists,
    outstanding_payment,
};
use crate::{dues, events};

/// The table of allocations.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel, Serialize, Deserialize)]
#[sea_orm(table_name = "allocation")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub revision: i64,
    pub version: i64,
    pub customer: String,
    pub state: String,
    pub language: String,
    pub pickup_address: Option<String>,
    pub pickup_latitude: Option<f64>,
    pub pickup_longitude: Option<f64>,
    pub destination_address: String,
    pub destination_latitude: Option<f64>,
    pub destination_longitude: Option<f64>,
    pub slot: i32,
    /// Unique: the place among the customer's open allocations.
    pub open_slot: Option<String>,
    pub expire_time: i64,
    pub expiring: bool,
    pub driving: Option<Uuid>,
    pub driver: Option<String>,
    pub cancel_reason: String,
    pub create_time: i64,
    pub update_time: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Persist for Allocation {
    type Entity = Entity;

    fn from_row(row: Model) -> Result<Recorded<Allocation>, CorruptRow> {
        let pickup =
            PlaceColumns(row.pickup_address, row.pickup_latitude, row.pickup_longitude).place()?;
        let destination = PlaceColumns(
            Some(row.destination_address),
            row.destination_latitude,
            row.destination_longitude,
        );
        Ok(Recorded {
            aggregate: Allocation {
                id: AllocationId(row.id),
                customer: CustomerId::from_subject(row.customer),
                pickup,
                destination: destination.place()?.ok_or(CorruptRow("no destination".into()))?,
                language: parse_language(&row.language)?,
                state: parse_state(&row.state)?,
                slot: row.slot.unsigned_abs(),
                expire_time: Timestamp::from_micros(row.expire_time),
                expiring: row.expiring,
                driving: row.driving.map(DrivingId),
                driver: row.driver.map(DriverId::from_subject),
                cancel_reason: row.cancel_reason,
                debtors: Debtors::default(),
            },
            revision: row.revision,
            version: row.version,
            create_time: Timestamp::from_micros(row.create_time),
            update_time: Timestamp::from_micros(row.update_time),
        })
    }

    fn to_row(recorded: &Recorded<Allocation>) -> ActiveModel {
        let allocation = &recorded.aggregate;
        let pickup = PlaceColumns::of(allocation.pickup.as_ref());
        let destination = PlaceColumns::of(Some(&allocation.destination));
        ActiveModel {
            id: Set(allocation.id.0),
            revision: Set(recorded.revision),
            version: Set(recorded.version),
            customer: Set(allocation.customer.subject().to_owned()),
            state: Set(state_name(allocation.state).to_owned()),
            language: Set(events::language_tag(allocation.language).to_owned()),
            pickup_address: Set(pickup.0),
            pickup_latitude: Set(pickup.1),
            pickup_longitude: Set(pickup.2),
            destination_address: Set(destination.0.unwrap_or_default()),
            destination_latitude: Set(destination.1),
            destination_longitude: Set(destination.2),
            slot: Set(allocation.slot.cast_signed()),
            open_slot: Set(allocation.open_slot()),
            expire_time: Set(allocation.expire_time.micros()),
            expiring: Set(allocation.expiring),
            driving: Set(allocation.driving.map(|driving| driving.0)),
            driver: Set(allocation.driver.as_ref().map(|driver| driver.subject().to_owned())),
            cancel_reason: Set(allocation.cancel_reason.clone()),
            create_time: Set(recorded.create_time.micros()),
            update_time: Set(recorded.update_time.micros()),
        }
    }

    fn visible_to(actor: &Actor) -> Condition {
        match actor.role {
            Role::Customer => Condition::all().add(Column::Customer.eq(&actor.subject)),
            Role::Driver => Condition::all().add(Column::Driver.eq(&actor.subject)),
            Role::Operator | Role::Service => Condition::all(),
        }
    }

    fn open_to(&self, actor: &Actor) -> bool {
        match actor.role {
            Role::Customer => self.customer.subject() == actor.subject,
            Role::Driver => self.driver.as_ref().is_some_and(|it| it.subject() == actor.subject),
            Role::Operator | Role::Service => true,
        }
    }

    fn matching(filter: &Filter) -> Condition {
        let states = filter.states.iter().map(|state| state_name(*state));
        let overdue = filter.overdue_at.map(|now| {
            Condition::all()
                .add(Column::State.eq(state_name(State::Requested)))
                .add(Column::Expiring.eq(false))
                .add(Column::ExpireTime.lte(now.micros()))
        });
        Condition::all()
            .add_option((!filter.states.is_empty()).then(|| Column::State.is_in(states)))
            .add_option(overdue)
    }

    fn not_found(id: Uuid) -> Rejection {
        Rejection::not_found("ALLOCATION_NOT_FOUND", AllocationId(id))
    }

    fn conflict(constraint: &str) -> Option<Rejection> {
        constraint.contains("open_slot").then(|| open_allocation_exists(1))
    }

    fn publication(recorded: &Recorded<Allocation>, event: &Event) -> Publication {
        events::publication(recorded, event)
    }

    /// Whoever owes a fee pays it first.
    async fn obstacle(
        db: &DatabaseTransaction,
        new: &[&Allocation],
    ) -> Result<HashMap<Uuid, Rejection>, DbErr> {
        let asked = new.iter().filter(|allocation| allocation.debtors == Debtors::Refused);
        let customers = asked.clone().map(|allocation| &allocation.customer);
        let owed = dues::owed_by(db, customers).await?;
        let owes = |allocation: &&&Allocation| {
            let payment = owed.get(allocation.customer.subject())?;
            Some((allocation.id.0, outstanding_payment(*payment)))
        };
        Ok(asked.filter_map(|allocation| owes(&allocation)).collect())
    }
}

const STATES: [(State, &str); 7] = [
    (State::Requested, "REQUESTED"),
    (State::Approved, "APPROVED"),
    (State::DrivingStarted, "DRIVING_STARTED"),
    (State::DrivingFinished, "DRIVING_FINISHED"),
    (State::Cancelling, "CANCELLING"),
    (State::Cancelled, "CANCELLED"),
    (State::Expired, "EXPIRED"),
];

fn state_name(state: State) -> &'static str {
    STATES.iter().find(|(known, _)| *known == state).map_or("", |(_, name)| name)
}

fn parse_state(name: &str) -> Result<State, CorruptRow> {
    let known = STATES.iter().find(|(_, known)| *known == name);
    known.map(|(state, _)| *state).ok_or_else(|| CorruptRow(format!("state {name}")))
}

fn parse_language(tag: &str) -> Result<Language, CorruptRow> {
    match tag {
        "ko" => Ok(Language::Ko),
        "en" => Ok(Language::En),
        _ => Err(CorruptRow(format!("language {tag}"))),
    }
}
