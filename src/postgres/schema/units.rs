//! In which units the averages are: chosen once, stored with the tables; another choice later is refused.
//!
//! The old system averaged wind in km/h, and its table does not say so. A user who brings that table has to choose:
//! nothing here guesses, and no row of it is changed.

use std::sync::Arc;

use super::SetupError;
use super::found::ExistingSchema;
use crate::error::Error;
use crate::postgres::failure::Failure;
use crate::postgres::session::Session;
use crate::reading::{Format, FormatSettings, output_units};

/// The units of this run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Units {
    /// `temperature=°C,humidity=%,wind_speed=m/s`.
    text: String,
    /// Whether the user chose it.
    is_chosen: bool,
}

impl Units {
    /// Those of a format.
    pub fn of(format: &Format) -> Self {
        Self { text: format.output_units(), is_chosen: format.has_chosen_units() }
    }

    /// As it is stored.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Refuses tables whose averages are in other units. `stored` is what they record; older tables record nothing, since
    /// there was no choice.
    pub(super) fn check(&self, stored: Option<&str>) -> Result<(), SetupError> {
        let defaults = Format::default().output_units();
        let stored = stored.unwrap_or(&defaults);
        if stored == self.text {
            return Ok(());
        }
        Err(Error::usage(format!(
            "these tables hold averages in {stored}, not in {}: use --output-units {stored}, or another database",
            self.text
        ))
        .into())
    }

    /// Asks for a choice where a table of the old system comes with rows.
    pub(super) async fn check_adoption(
        &self,
        session: &Session,
        found: &ExistingSchema,
    ) -> Result<(), SetupError> {
        if self.is_chosen || !found.has_summary_of_old_system() {
            return Ok(());
        }
        let has_wind = "SELECT EXISTS (SELECT 1 FROM weather_summary WHERE avg_wind_speed IS NOT NULL)";
        let row = session.call(session.client.query_one(has_wind, &[])).await?;
        if !row.try_get::<_, bool>(0).map_err(Failure::from)? {
            return Ok(());
        }
        Err(Error::usage(
            "weather_summary has rows of the old system, whose avg_wind_speed is in km/h; choose the unit to \
             continue in: \
             --output-units wind_speed=km/h, or --output-units wind_speed=m/s after UPDATE weather_summary SET \
             avg_wind_speed = avg_wind_speed / 3.6;",
        )
        .into())
    }
}

/// The format in the units that tables are kept in, unless others were asked for.
pub(super) fn in_force(asked: &Arc<Format>, stored: Option<&str>) -> Result<Arc<Format>, SetupError> {
    match stored {
        Some(stored) if !asked.has_chosen_units() => {
            let output = output_units(stored).map_err(|_| {
                Error::usage(format!("weather_pipeline.output_units: {stored:?} are no units of averages"))
            })?;
            Ok(Arc::new(Format::new(FormatSettings { output: Some(output), ..asked.settings().clone() })))
        }
        stored => Units::of(asked).check(stored).map(|()| Arc::clone(asked)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_chosen_once() {
        let units = |text: Option<&str>| {
            let output = text.map(|text| output_units(text).unwrap());
            Units::of(&Arc::new(Format::new(FormatSettings { output, ..FormatSettings::default() })))
        };
        let (default, same, kmh) =
            (units(None), units(Some("wind_speed=m/s")), units(Some("wind_speed=km/h")));
        assert!(
            default.check(None).is_ok()
                && same.check(None).is_ok()
                && default.check(Some(same.text())).is_ok()
        );
        assert!(kmh.check(Some(kmh.text())).is_ok());
        for (units, stored) in [(&kmh, None), (&default, Some(kmh.text()))] {
            let Err(SetupError::Refused(refused)) = units.check(stored) else { panic!("{units:?}") };
            assert!(refused.to_string().contains("--output-units"), "{refused}");
        }
    }

    #[test]
    fn the_tables_units_are_taken_where_none_are_asked_for() {
        let kmh = output_units("wind_speed=km/h").unwrap();
        let asked = |output| Arc::new(Format::new(FormatSettings { output, ..FormatSettings::default() }));
        let stored = asked(Some(kmh)).output_units();
        for asked in [asked(None), asked(Some(kmh))] {
            assert_eq!(in_force(&asked, Some(&stored)).unwrap().output_units(), stored);
        }
        assert!(in_force(&asked(Some(kmh)), None).is_err());
    }
}
