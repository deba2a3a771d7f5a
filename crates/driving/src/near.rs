//! Near: around a position, and how far from it. Pure geometry on a sphere.

use std::ops::RangeInclusive;

use kernel::{Location, Rejection};

/// The earth's mean radius in metres, as [`Location::distance`] has it.
const EARTH: f64 = 6_371_008.8;

/// Around a position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Near {
    at: Location,
    radius: Option<f64>,
}

/// A box of degrees around a circle: whatever is within the circle is within the box.
#[derive(Clone, Debug, PartialEq)]
pub struct Bounds {
    /// Degrees north.
    pub latitudes: RangeInclusive<f64>,
    /// Degrees east; two ranges when the 180th meridian runs through the circle.
    pub longitudes: Vec<RangeInclusive<f64>>,
}

impl Near {
    /// Around this position, and at most this many metres away; 0 means any distance.
    pub fn parse(at: Location, radius_meters: f64) -> Result<Near, Rejection> {
        if radius_meters.is_finite() && radius_meters >= 0.0 {
            let radius = (radius_meters > 0.0).then_some(radius_meters);
            return Ok(Near { at, radius });
        }
        Err(invalid_radius("must be a number of metres, 0 or more"))
    }

    /// How many metres away a pickup is; infinitely many when nobody knows.
    pub fn distance(&self, pickup: Option<Location>) -> f64 {
        pickup.map_or(f64::INFINITY, |pickup| self.at.distance(pickup))
    }

    /// Whether a pickup this far away is near enough.
    pub fn covers(&self, distance: f64) -> bool {
        self.radius.is_none_or(|radius| distance <= radius)
    }

    /// Where to look for what is near enough; everywhere, when any distance is.
    pub fn bounds(&self) -> Option<Bounds> {
        // A metre more than asked for is more than all errors of rounding.
        let angle = (self.radius? + 1.0) / EARTH;
        let (north, east) = (self.at.latitude(), self.at.longitude());
        let latitudes = north - angle.to_degrees()..=north + angle.to_degrees();
        let pole = *latitudes.start() <= -90.0 || *latitudes.end() >= 90.0;
        let half = (angle.sin() / north.to_radians().cos()).asin().to_degrees();
        let (from, to) = (east - half, east + half);
        let longitudes = match () {
            // All meridians meet in a pole.
            () if pole => vec![-180.0..=180.0],
            () if from < -180.0 => vec![from + 360.0..=180.0, -180.0..=to],
            () if to > 180.0 => vec![from..=180.0, -180.0..=to - 360.0],
            () => vec![from..=to],
        };
        Some(Bounds { latitudes, longitudes })
    }
}

/// The radius makes no sense.
pub fn invalid_radius(message: &str) -> Rejection {
    Rejection::invalid("radius_meters", "INVALID_RADIUS", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn location(latitude: f64, longitude: f64) -> Location {
        Location::parse("near", latitude, longitude).expect("on the globe")
    }

    #[test]
    fn a_radius_is_a_number_of_metres() {
        for (radius, fits) in [
            (0.0, true),
            (0.5, true),
            (1e9, true),
            (-1.0, false),
            (f64::NAN, false),
            (f64::INFINITY, false),
        ] {
            let parsed = Near::parse(location(37.5, 127.0), radius).map_err(|no| no.reason);
            assert_eq!(parsed.err(), (!fits).then_some("INVALID_RADIUS"), "{radius}");
        }
    }

    #[test]
    fn without_a_radius_even_the_unknown_is_near_enough() {
        let anywhere = Near::parse(location(37.5, 127.0), 0.0).expect("a radius");
        assert!(anywhere.covers(anywhere.distance(None)));
        assert_eq!(anywhere.bounds(), None);
        let close = Near::parse(location(37.5, 127.0), 1_000.0).expect("a radius");
        assert!(!close.covers(close.distance(None)));
    }

    #[test]
    fn the_box_is_not_much_larger_than_the_circle() {
        let seoul = Near::parse(location(37.5, 127.0), 1_000.0).expect("a radius");
        let bounds = seoul.bounds().expect("a radius");
        assert!(bounds.latitudes.contains(&37.508) && !bounds.latitudes.contains(&37.510));
        let [longitudes] = &bounds.longitudes[..] else { panic!("one range") };
        assert!(longitudes.contains(&127.011) && !longitudes.contains(&127.012));
    }

    #[test]
    fn the_box_goes_around_the_globe() {
        let fiji = Near::parse(location(-17.0, 179.999), 1_000.0).expect("a radius");
        let longitudes = fiji.bounds().expect("a radius").longitudes;
        assert!(longitudes.iter().any(|range| range.contains(&-179.999)));
        assert!(!longitudes.iter().any(|range| range.contains(&0.0)));
        let pole = Near::parse(location(89.999, 0.0), 1_000.0).expect("a radius");
        assert_eq!(pole.bounds().expect("a radius").longitudes, [-180.0..=180.0]);
    }

    proptest! {
        #[test]
        fn whatever_is_within_the_circle_is_within_the_box(
            north in -90.0..=90.0_f64, east in -180.0..=180.0_f64,
            other_north in -90.0..=90.0_f64, other_east in -180.0..=180.0_f64,
            slack in 0.0..=0.1_f64,
        ) {
            let (at, other) = (location(north, east), location(other_north, other_east));
            let radius = at.distance(other) * (1.0 + slack);
            prop_assume!(radius > 0.0);
            let near = Near::parse(at, radius).expect("a radius");
            prop_assert!(near.covers(near.distance(Some(other))));
            let bounds = near.bounds().expect("a radius");
            prop_assert!(bounds.latitudes.contains(&other_north));
            prop_assert!(bounds.longitudes.iter().any(|range| range.contains(&other_east)));
        }
    }
}
