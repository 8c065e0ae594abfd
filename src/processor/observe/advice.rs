//! What to do about records that are refused, and about a metric that never comes: one sentence, from an example if there
//! is one.

use crate::engine::dead_letter::DeadLetter;
use crate::reading::explain::explain;
use crate::reading::{Format, Metric, Reason};
use crate::time::{Rfc3339, now_ms};

/// What to do about records that are refused for this reason; they are this share of all.
pub fn on_rejected(reason: Reason, share: f64, example: Option<&DeadLetter>, format: &Format) -> String {
    // Of one that was cut nothing can be told.
    let whole = |dead_letter: &DeadLetter| {
        let payload = dead_letter.payload.clone()?;
        (i64::try_from(payload.len()) == Ok(dead_letter.payload_bytes)).then_some(payload)
    };
    let hint = example.and_then(whole).and_then(|payload| hint(reason, &payload, format));
    hint.unwrap_or_else(|| in_general(reason, share))
}

/// What to do about metrics that none of the readings has.
pub fn on_missing(metrics: &[Metric], example: Option<&[u8]>, format: &Format) -> String {
    let hint = example.and_then(|value| explain(format, value).hint());
    let names = || {
        let names: Vec<String> =
            metrics.iter().map(|metric| format!("{}=NAME:UNIT", metric.as_str())).collect();
        format!("if records carry them under other names, set --fields '{}'", names.join(","))
    };
    hint.unwrap_or_else(names)
}

fn hint(reason: Reason, payload: &[u8], format: &Format) -> Option<String> {
    match reason {
        Reason::Malformed | Reason::MissingTimestamp | Reason::NoMetric => explain(format, payload).hint(),
        Reason::Future if format.settings().zone.is_none() => explain(format, payload).local_time().map(|time| {
            format!(
                "the time {time} has no offset, so it was read as UTC; if it is local, set --time-zone, such as \
                 --time-zone Asia/Kolkata"
            )
        }),
        _ => None,
    }
}

fn in_general(reason: Reason, share: f64) -> String {
    let text = match reason {
        Reason::Malformed => "they are not JSON objects or their time cannot be read; check what sends them",
        Reason::MissingTimestamp => {
            "they have no known time field; name it with --fields timestamp=NAME, or use --missing-timestamp kafka"
        }
        Reason::NoMetric => "they have no known metric; name the fields with --fields temperature=NAME,…",
        Reason::OutOfRange => "no metric is in its range",
        Reason::Future if share > 0.5 => {
            let now = Rfc3339(now_ms());
            return format!(
                "most records are ahead of the clock of this machine, which shows {now}: check this clock first; \
                 once it is right, `weather readmit --reason future` takes them into their windows"
            );
        }
        Reason::Future => {
            "their time is further ahead than --max-future; check the clocks of the stations and of this machine"
        }
        Reason::Late => {
            "their windows had ended; a longer --watermark waits longer for such records, and `weather readmit` takes them \
             into their windows afterwards"
        }
        Reason::Oversized => "they are longer than a reading may be; check what sends them",
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dead_letter(payload: &str) -> DeadLetter {
        DeadLetter {
            incarnation: 0,
            offset: 0,
            reason: Reason::Malformed,
            payload: Some(payload.as_bytes().into()),
            payload_bytes: payload.len() as i64,
        }
    }

    #[test]
    fn the_line_says_what_to_set() {
        let advice =
            |reason, payload: &str| on_rejected(reason, 0.1, Some(&dead_letter(payload)), &Format::default());
        for (reason, payload, words) in [
            (
                Reason::NoMetric,
                r#"{"dt":1709633700,"main":{"temp":283.1}}"#,
                "--fields 'temperature=main.temp:K'",
            ),
            (Reason::MissingTimestamp, r#"{"temperature":1}"#, "--missing-timestamp kafka"),
            (Reason::Future, r#"{"timestamp":"2999-01-01 10:00","temperature":1}"#, "--time-zone"),
            (Reason::Future, r#"{"timestamp":"2999-01-01T10:00Z","temperature":1}"#, "--max-future"),
            (Reason::Late, r#"{"timestamp":"2020-01-01 10:00","temperature":1}"#, "--watermark"),
        ] {
            let advice = advice(reason, payload);
            assert!(advice.contains(words), "{payload}: {advice}");
        }
        let cut = DeadLetter { payload_bytes: 9_999, ..dead_letter("{\"dt\":17") };
        let advice = on_rejected(Reason::Malformed, 0.1, Some(&cut), &Format::default());
        assert!(advice.contains("check what sends them"), "{advice}");
    }

    #[test]
    fn this_machines_clock_is_named_when_most_records_are_ahead_of_it() {
        let advice = |share| on_rejected(Reason::Future, share, None, &Format::default());
        assert!(advice(0.9).contains("check this clock first"));
        assert!(!advice(0.1).contains("first"));
    }

    #[test]
    fn a_metric_that_never_comes_is_looked_for_in_a_record() {
        let advice = |value: Option<&str>| {
            on_missing(&[Metric::Humidity, Metric::WindSpeed], value.map(str::as_bytes), &Format::default())
        };
        let windspeed = advice(Some(r#"{"timestamp":1709633700,"temperature":8,"windspeed":9}"#));
        assert!(windspeed.contains("--fields 'wind_speed=windspeed:m/s'"), "{windspeed}");
        for nothing in [None, Some(r#"{"timestamp":1709633700,"temperature":8}"#)] {
            assert!(advice(nothing).contains("--fields 'humidity=NAME:UNIT,wind_speed=NAME:UNIT'"));
        }
    }
}
