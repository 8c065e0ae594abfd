//! Averages and extremes of a window, as `/progress` and `/stations` have them.

use serde::Serialize;

use crate::engine::window::METRICS;

/// Part of an entry; null where nothing is known.
#[derive(Debug, Serialize)]
pub(super) struct Measures {
    avg_temp: Option<f64>,
    avg_humidity: Option<f64>,
    avg_wind_speed: Option<f64>,
    min_temp: Option<f64>,
    max_temp: Option<f64>,
    min_humidity: Option<f64>,
    max_humidity: Option<f64>,
    max_wind_speed: Option<f64>,
}

impl Measures {
    /// Each in the order of `reading::Metric`. The least wind speed is shown nowhere.
    pub(super) fn of(
        [avg_temp, avg_humidity, avg_wind_speed]: [Option<f64>; METRICS],
        [min_temp, min_humidity, _]: [Option<f64>; METRICS],
        [max_temp, max_humidity, max_wind_speed]: [Option<f64>; METRICS],
    ) -> Self {
        Self {
            avg_temp,
            avg_humidity,
            avg_wind_speed,
            min_temp,
            max_temp,
            min_humidity,
            max_humidity,
            max_wind_speed,
        }
    }
}
