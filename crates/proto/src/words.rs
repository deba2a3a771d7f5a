//! The kernel's words on the wire, and back.

use kernel::{Location, Money, Place, Rejection, Timestamp};

use crate::google::r#type::{LatLng, Money as WireMoney};
use crate::r#type::v1::Place as WirePlace;

/// A time as `google.protobuf.Timestamp`.
pub fn time(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: time.micros().div_euclid(1_000_000),
        nanos: time.micros().rem_euclid(1_000_000) as i32 * 1_000,
    }
}

/// A `google.protobuf.Timestamp` as time.
pub fn parse_time(time: &prost_types::Timestamp) -> Timestamp {
    let micros = time.seconds.saturating_mul(1_000_000);
    Timestamp::from_micros(micros.saturating_add(i64::from(time.nanos) / 1_000))
}

/// An amount as `google.type.Money`.
pub fn money(amount: Money) -> WireMoney {
    WireMoney { currency_code: "KRW".to_owned(), units: amount.as_won(), nanos: 0 }
}

/// A `google.type.Money` as an amount: whole won, not negative.
pub fn parse_money(field: &str, money: Option<&WireMoney>) -> Result<Money, Rejection> {
    match money {
        Some(WireMoney { currency_code, units: 0.., nanos: 0 }) if currency_code == "KRW" => {
            Ok(Money::won(money.map_or(0, |money| money.units)))
        }
        _ => {
            Err(Rejection::invalid(field, "INVALID_AMOUNT", "must be whole won in KRW, 0 or more"))
        }
    }
}

/// A location as `google.type.LatLng`.
pub fn location(location: Location) -> LatLng {
    LatLng { latitude: location.latitude(), longitude: location.longitude() }
}

/// A place as `taxi.type.v1.Place`.
pub fn place(place: &Place) -> WirePlace {
    WirePlace { address: place.address().to_owned(), location: place.location().map(location) }
}

/// A `google.type.LatLng` as a location on the globe.
pub fn parse_location(field: &str, location: &LatLng) -> Result<Location, Rejection> {
    Location::parse(field, location.latitude, location.longitude)
}

/// A `taxi.type.v1.Place` as a place.
pub fn parse_place(field: &str, place: &WirePlace) -> Result<Place, Rejection> {
    let at = place.location.as_ref();
    let location = at.map(|at| parse_location(&format!("{field}.location"), at)).transpose()?;
    Place::parse(field, &place.address, location)
}
