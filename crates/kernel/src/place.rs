//! Where somebody is or wants to go.

use crate::Rejection;

/// A point on the globe, WGS 84.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Location {
    latitude: f64,
    longitude: f64,
}

impl Location {
    /// Parses degrees; refuses what is not on the globe. `field` is the client's name for it.
    pub fn parse(field: &str, latitude: f64, longitude: f64) -> Result<Location, Rejection> {
        if (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude) {
            return Ok(Location { latitude, longitude });
        }
        let message = "latitude must be within -90..90 and longitude within -180..180 degrees";
        Err(Rejection::invalid(field, "INVALID_LOCATION", message))
    }

    /// Degrees north.
    pub fn latitude(self) -> f64 {
        self.latitude
    }

    /// Degrees east.
    pub fn longitude(self) -> f64 {
        self.longitude
    }

    /// The great-circle distance in metres, on a sphere of the earth's mean radius.
    pub fn distance(self, other: Location) -> f64 {
        let (north, east) = (other.latitude - self.latitude, other.longitude - self.longitude);
        let half = |degrees: f64| (degrees.to_radians() / 2.0).sin().powi(2);
        let chord = half(north)
            + self.latitude.to_radians().cos() * other.latitude.to_radians().cos() * half(east);
        2.0 * 6_371_008.8 * chord.sqrt().min(1.0).asin()
    }
}

/// A place a customer names: an address, and a location when the client knows it. A location is
/// never invented from an address.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    address: String,
    location: Option<Location>,
}

impl Place {
    /// The longest address, in characters.
    pub const MAX_ADDRESS: usize = 200;

    /// Parses an address of 1..200 characters. `field` is the client's name for the place.
    pub fn parse(
        field: &str,
        address: &str,
        location: Option<Location>,
    ) -> Result<Place, Rejection> {
        let address = address.trim();
        // Bytes first: nobody counts the characters of five megabytes.
        let fits = address.len() <= 4 * Place::MAX_ADDRESS
            && (1..=Place::MAX_ADDRESS).contains(&address.chars().count());
        if !fits || address.contains(|c: char| c.is_control()) {
            let message = "must be 1..200 characters without control characters";
            return Err(Rejection::invalid(
                &format!("{field}.address"),
                "INVALID_ADDRESS",
                message,
            ));
        }
        Ok(Place { address: address.to_owned(), location })
    }

    /// The address as the customer wrote it, without white space around it.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The location, when the client knew it.
    pub fn location(&self) -> Option<Location> {
        self.location
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_1_to_200_characters() {
        for (address, fits) in
            [("Misa", true), ("", false), (" \t", false), ("가".repeat(200).as_str(), true)]
        {
            assert_eq!(Place::parse("destination", address, None).is_ok(), fits, "{address}");
        }
        assert!(Place::parse("destination", &"가".repeat(201), None).is_err());
    }

    #[test]
    fn locations_are_on_the_globe() {
        for (latitude, longitude, fits) in [
            (37.56, 126.97, true),
            (-90.0, 180.0, true),
            (90.1, 0.0, false),
            (f64::NAN, 0.0, false),
        ] {
            assert_eq!(Location::parse("near", latitude, longitude).is_ok(), fits);
        }
    }

    #[test]
    fn seoul_station_is_a_short_ride_from_city_hall() {
        let city_hall = Location::parse("near", 37.5663, 126.9779).expect("on the globe");
        let station = Location::parse("near", 37.5547, 126.9707).expect("on the globe");
        assert!((1_400.0..1_500.0).contains(&city_hall.distance(station)));
    }
}
