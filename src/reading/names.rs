//! The names that are known by default, each with the only unit that it can mean.
//!
//! A name whose unit is unclear (`temp`, `windspeed`, `main.temp`) is not here: averaging in a wrong unit is worse
//! than asking. Of several names that one record has, the first in its list counts, so a list goes from the most precise
//! (a unit given next to the value) to the least precise.
//!
//! Forecasts are not measurements: the names of their parts (`hourly`, `daily`, `list`, `periods`, `startTime`, `dt_txt`)
//! are absent on purpose.

use super::units::Unit::{
    self, Celsius, Fahrenheit, Kelvin, KilometresPerHour, Knots, MetresPerSecond, MilesPerHour, Percent,
};

/// How the unit of a metric's name is known.
#[derive(Debug, Clone, Copy)]
pub(super) enum KnownUnit {
    /// It is this.
    Is(Unit),
    /// The text of another field states it; without that field, the name does not count.
    Stated(&'static str),
    /// As `Stated`; without that field, it is this.
    StatedOr(&'static str, Unit),
}

use KnownUnit::{Is, Stated, StatedOr};

/// How the zone of a time without an offset is known.
#[derive(Debug, Clone, Copy)]
pub(super) enum KnownZone {
    /// It is the format's.
    Given,
    /// The name means local time: it counts only if the format has a zone.
    Local,
    /// The name means UTC.
    Utc,
    /// Another field states how many seconds it is ahead of UTC.
    Offset(&'static str),
}

use KnownZone::{Given, Local, Offset, Utc};

/// The name of the station.
pub(super) const STATIONS: &[&str] = &[
    "station",
    "station_id",
    "stationId",
    "station_name",
    "stationName",
    "city",
    "city_name",
    "location",
    // WeatherAPI.com; the weather service of the USA.
    "location.name",
    "properties.station",
    "sensor_id",
    "device_id",
    "serial_number",
    "name",
];

/// When the reading was taken.
pub(super) const TIMES: &[(&str, KnownZone)] = &[
    ("timestamp", Given),
    ("Timestamp", Given),
    ("event_time", Given),
    ("eventTime", Given),
    ("observed_at", Given),
    ("observation_time", Given),
    ("obs_time", Given),
    ("measured_at", Given),
    ("time", Given),
    ("datetime", Given),
    ("dt", Given),
    ("ts", Given),
    ("ts_utc", Utc),
    ("dateutc", Utc),
    ("created_at", Given),
    ("api_timestamp", Given),
    ("status_timestamp", Given),
    ("CreationTime", Given),
    ("date", Given),
    // WeatherAPI.com, whole and taken apart.
    ("current.last_updated_epoch", Given),
    ("last_updated_epoch", Given),
    ("last_updated", Local),
    ("localtime_epoch", Given),
    ("localtime", Local),
    // Open-Meteo: the current weather, new and old.
    ("current.time", Offset("utc_offset_seconds")),
    ("current_weather.time", Offset("utc_offset_seconds")),
    // The weather service of the USA.
    ("properties.timestamp", Given),
];

/// Air temperature.
pub(super) const TEMPERATURES: &[(&str, KnownUnit)] = &[
    ("temperature", Stated("temperatureUnit")),
    ("temperature", StatedOr("temperature_unit", Celsius)),
    ("temperature.value", Stated("temperature.unitCode")),
    ("properties.temperature.value", Stated("properties.temperature.unitCode")),
    ("Temperature", Is(Celsius)),
    ("temperature_c", Is(Celsius)),
    ("temperature_C", Is(Celsius)),
    ("temperature_celsius", Is(Celsius)),
    ("temp_c", Is(Celsius)),
    ("temp_C", Is(Celsius)),
    ("temp_celsius", Is(Celsius)),
    ("tempc", Is(Celsius)),
    ("current.temp_c", Is(Celsius)),
    ("current.temperature_2m", StatedOr("current_units.temperature_2m", Celsius)),
    ("current_weather.temperature", StatedOr("current_weather_units.temperature", Celsius)),
    ("temperature_f", Is(Fahrenheit)),
    ("temperature_F", Is(Fahrenheit)),
    ("temperature_fahrenheit", Is(Fahrenheit)),
    ("temp_f", Is(Fahrenheit)),
    ("temp_F", Is(Fahrenheit)),
    ("temp_fahrenheit", Is(Fahrenheit)),
    ("tempf", Is(Fahrenheit)),
    ("temperature_k", Is(Kelvin)),
    ("temperature_K", Is(Kelvin)),
    ("temperature_kelvin", Is(Kelvin)),
    ("temp_k", Is(Kelvin)),
    ("temp_kelvin", Is(Kelvin)),
];

/// Relative humidity.
pub(super) const HUMIDITIES: &[(&str, KnownUnit)] = &[
    ("humidity", Is(Percent)),
    ("Humidity", Is(Percent)),
    ("humidity_pct", Is(Percent)),
    ("humidity_percent", Is(Percent)),
    ("humidity.value", Stated("humidity.unitCode")),
    ("relative_humidity", Is(Percent)),
    ("relative_humidity_pct", Is(Percent)),
    ("relativeHumidity.value", Stated("relativeHumidity.unitCode")),
    ("properties.relativeHumidity.value", Stated("properties.relativeHumidity.unitCode")),
    ("current.humidity", Is(Percent)),
    ("current.relative_humidity_2m", Is(Percent)),
    ("current.relativehumidity_2m", Is(Percent)),
];

/// Wind speed.
pub(super) const WIND_SPEEDS: &[(&str, KnownUnit)] = &[
    ("wind_speed", StatedOr("wind_speed_unit", MetresPerSecond)),
    ("windSpeed.value", Stated("windSpeed.unitCode")),
    ("properties.windSpeed.value", Stated("properties.windSpeed.unitCode")),
    ("wind_speed_ms", Is(MetresPerSecond)),
    ("wind_speed_mps", Is(MetresPerSecond)),
    ("wind_ms", Is(MetresPerSecond)),
    ("wind_mps", Is(MetresPerSecond)),
    ("wind_avg_m_s", Is(MetresPerSecond)),
    ("wind_speed_kph", Is(KilometresPerHour)),
    ("wind_speed_kmh", Is(KilometresPerHour)),
    ("wind_kph", Is(KilometresPerHour)),
    ("wind_kmh", Is(KilometresPerHour)),
    ("wind_avg_km_h", Is(KilometresPerHour)),
    ("current.wind_kph", Is(KilometresPerHour)),
    ("current.wind_speed_10m", StatedOr("current_units.wind_speed_10m", KilometresPerHour)),
    ("current.windspeed_10m", StatedOr("current_units.windspeed_10m", KilometresPerHour)),
    ("current_weather.windspeed", StatedOr("current_weather_units.windspeed", KilometresPerHour)),
    ("wind_speed_mph", Is(MilesPerHour)),
    ("wind_mph", Is(MilesPerHour)),
    ("windspeedmph", Is(MilesPerHour)),
    ("wind_avg_mi_h", Is(MilesPerHour)),
    ("wind_speed_kn", Is(Knots)),
    ("wind_speed_kt", Is(Knots)),
    ("wind_speed_knots", Is(Knots)),
    ("wind_knots", Is(Knots)),
];
