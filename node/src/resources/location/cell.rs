//! The grid that coarse positions are told by: the cell of a place, its centre, how far off the truth may be.

/// Cells of a degree: each is 0.02 degrees high, 2.2 km.
const PER_DEGREE: u32 = 50;
/// Rows of cells from pole to pole.
const ROWS: u32 = 180 * PER_DEGREE;
/// Columns of cells around the Earth.
const COLUMNS: u32 = 360 * PER_DEGREE;
/// Metres of a degree of latitude at the poles (WGS 84), where it is longest; a degree of longitude is nowhere longer.
/// Errors that are computed with it are never too small.
const DEGREE: f64 = 111_694.0;
/// Cells become narrow where meridians meet (9 m in the last row but ten): as many are joined as make up this width, in
/// metres. Half of a cell at the equator; begins to matter at 63 degrees. *Judgement.*
const WIDTH_MIN: f64 = 1_000.0;
/// A cell is left when the device is this far outside it, in metres. Else somebody at its border would change cells with
/// every error of the receiver, and tell with each change that he is at the border. A receiver that errs by 500 m to both
/// sides (B76) is never further out than 1,000 m.
pub(super) const STICKY: f64 = 1_100.0;

/// One cell, or some that are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cell {
    row: u32,
    /// First column, and the one after the last.
    columns: (u32, u32),
}

impl Cell {
    /// The cell of a place. Degrees, -90..=90 and -180..=180.
    pub(super) fn at(lat: f64, lon: f64) -> Self {
        let row = (((lat + 90.0) * f64::from(PER_DEGREE)) as u32).min(ROWS - 1);
        // 180 degrees east is 180 degrees west.
        let column = ((lon + 180.0) * f64::from(PER_DEGREE)) as u32 % COLUMNS;
        let width = DEGREE / f64::from(PER_DEGREE) * centre_of_row(row).to_radians().cos();
        // An odd number has a middle cell.
        let joined = ((WIDTH_MIN / width).ceil() as u32).clamp(1, COLUMNS) | 1;
        // What is left over at the end of a row belongs to its last cell.
        let last = COLUMNS / joined - 1;
        let index = (column / joined).min(last);
        let end = if index == last { COLUMNS } else { (index + 1) * joined };
        Self { row, columns: (index * joined, end) }
    }

    /// Its centre: latitude and longitude in degrees. Of joined cells it is the centre of the middle one.
    pub(super) fn centre(&self) -> (f64, f64) {
        let (first, end) = self.columns;
        let column = first + (end - first - 1) / 2;
        (centre_of_row(self.row), hundredths(2 * column + 1, COLUMNS))
    }

    /// True when a place is clearly outside.
    pub(super) fn is_left_by(&self, lat: f64, lon: f64) -> bool {
        let (centre_lat, centre_lon) = self.centre();
        let north = (lat - centre_lat).abs() * DEGREE;
        let turn = (lon - centre_lon).rem_euclid(360.0);
        let east = turn.min(360.0 - turn) * DEGREE * lat.to_radians().cos();
        let (half_height, half_width) = self.half();
        north - half_height > STICKY || east - half_width > STICKY
    }

    /// How far from its centre a device may be that has not left it, in metres.
    pub(super) fn radius(&self) -> f64 {
        let (half_height, half_width) = self.half();
        (half_height + STICKY).hypot(half_width + STICKY)
    }

    /// Half of its height, and the longer way from its centre to its sides, in metres.
    fn half(&self) -> (f64, f64) {
        let half_height = DEGREE / f64::from(2 * PER_DEGREE);
        let (first, end) = self.columns;
        let middle = (end - first - 1) / 2;
        // In halves of a column.
        let sides = (2 * middle + 1).max(2 * (end - first - middle) - 1);
        // It is widest at its side to the equator, and where one may still stand beyond that.
        let side = (centre_of_row(self.row).abs() - (half_height + STICKY) / DEGREE).max(0.0);
        (half_height, f64::from(sides) * half_height * side.to_radians().cos())
    }
}

fn centre_of_row(row: u32) -> f64 {
    hundredths(2 * row + 1, ROWS)
}

/// Degrees of a place counted in halves of a cell from the edge of a map of `cells`: exact in decimal notation.
fn hundredths(halves: u32, cells: u32) -> f64 {
    (f64::from(halves) - f64::from(cells)) / f64::from(2 * PER_DEGREE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Metres between two places on a globe (haversine).
    fn distance(a: (f64, f64), b: (f64, f64)) -> f64 {
        let [north, east] = [b.0 - a.0, b.1 - a.1].map(|degrees| (degrees.to_radians() / 2.0).sin().powi(2));
        let h = north + a.0.to_radians().cos() * b.0.to_radians().cos() * east;
        2.0 * 6_371_008.8 * h.sqrt().min(1.0).asin()
    }

    #[test]
    fn centres() {
        for (place, centre) in [
            ((46.5191, 7.5003), (46.51, 7.51)),
            ((46.5, 7.5), (46.51, 7.51)),
            ((46.4999, 7.4999), (46.49, 7.49)),
            ((-33.8688, 151.2093), (-33.87, 151.21)),
            ((0.0, 0.0), (0.01, 0.01)),
            ((-0.001, -0.001), (-0.01, -0.01)),
            ((0.0, 180.0), (0.01, -179.99)),
            ((0.0, -180.0), (0.01, -179.99)),
            ((0.0, 179.9999), (0.01, 179.99)),
            ((59.91, 10.75), (59.91, 10.75)),
            // Tromsø: three columns are one.
            ((69.6492, 18.9553), (69.65, 18.93)),
            ((69.6492, 18.9001), (69.65, 18.93)),
        ] {
            assert_eq!(Cell::at(place.0, place.1).centre(), centre, "{place:?}");
        }
        assert_eq!(Cell::at(90.0, 0.0).centre().0, 89.99);
        assert_eq!(Cell::at(-90.0, 12.0).centre().0, -89.99);
    }

    #[test]
    fn a_cell_is_left_only_when_that_is_clear() {
        let cell = Cell::at(46.51, 7.51);
        let metre = 1.0 / DEGREE;
        for (metres, left) in [(0.0, false), (1_090.0, false), (1_110.0, true), (50_000.0, true)] {
            assert_eq!(cell.is_left_by(46.52 + metres * metre, 7.51), left, "{metres} m north of it");
            assert_eq!(cell.is_left_by(46.50 - metres * metre, 7.51), left, "{metres} m south of it");
            let east = metres * metre / 46.51_f64.to_radians().cos();
            assert_eq!(cell.is_left_by(46.51, 7.52 + east), left, "{metres} m east of it");
            assert_eq!(cell.is_left_by(46.51, 7.50 - east), left, "{metres} m west of it");
        }
        // Over the date line it is as far as anywhere.
        let cell = Cell::at(0.01, 179.99);
        assert!(!cell.is_left_by(0.01, -179.991) && cell.is_left_by(0.01, -179.98));
    }

    #[test]
    fn radii() {
        // Half of a cell and the way beyond it that does not count, to the north and to the east.
        for (lat, radius) in [(0.0, 3_135.0), (46.5, 2_897.0), (-46.5, 2_897.0), (62.9, 2_740.0), (64.0, 3_394.0)] {
            let found = Cell::at(lat, 7.5).radius();
            assert!((found - radius).abs() < 5.0, "{found} at {lat}");
        }
    }

    proptest! {
        /// Wherever somebody is, his cell is a kilometre wide and he is within its radius, also when he has gone as far
        /// outside as does not count.
        #[test]
        fn cells_are_wide_and_their_radius_is_honest(
            lat in -90.0..=90.0_f64, lon in -180.0..=180.0_f64, north in -0.03..0.03_f64, east in -1.0..1.0_f64,
        ) {
            let cell = Cell::at(lat, lon);
            prop_assert_eq!(Cell::at(cell.centre().0, cell.centre().1), cell);
            prop_assert!(!cell.is_left_by(lat, lon));
            prop_assert!(cell.half().1 >= 500.0);
            let gone = ((lat + north).clamp(-90.0, 90.0), (lon + east).clamp(-180.0, 180.0));
            prop_assert!(distance((lat, lon), cell.centre()) <= cell.radius());
            if !cell.is_left_by(gone.0, gone.1) {
                prop_assert!(distance(gone, cell.centre()) <= cell.radius(), "{:?}", gone);
            }
        }
    }
}
