//! Numbers, sizes and times as a reader wants them.
//!
//! Invariants: a number is as exact as it is of use to somebody who reads it; JSON has all of it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use humansize::{BINARY, format_size};

/// For what is not there.
pub const NONE: &str = "–";

/// A number with its thousands separated: `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// A number with what it counts: `1 point`, `1,234 points`.
pub fn counted(number: u64, of_one: &str, of_many: &str) -> String {
    let what = if number == 1 { of_one } else { of_many };
    format!("{} {what}", count(number))
}

/// A number of bytes: `1.55 MiB`.
pub fn size(bytes: u64) -> String {
    format_size(bytes, BINARY)
}

/// Duration with its unit: `4 ms`, `0.28 s`, `12.3 s`, `3 min 20 s`, `1 h 5 min`.
pub fn duration(seconds: f64) -> String {
    let Ok(time) = Duration::try_from_secs_f64(seconds) else {
        return NONE.into();
    };
    let whole = time
        .as_secs()
        .saturating_add(u64::from(time.subsec_millis() >= 500));
    match whole {
        0 if time.is_zero() => "0 s".into(),
        0 if time.as_micros() < 1000 => "under 1 ms".into(),
        0 if time.as_millis() < 100 => format!("{} ms", time.as_millis()),
        0..10 => format!("{seconds:.2} s"),
        10..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", count(whole / 3600), whole % 3600 / 60),
    }
}

/// A point in time, to the second.
pub fn moment(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// A word as a shell takes it: as it is, or quoted.
pub fn shell(word: &str) -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "_-./:@%+=,".contains(char);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_read_at_a_glance() {
        for (number, shown) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ] {
            assert_eq!(count(number), shown);
        }
        assert_eq!(counted(1, "point", "points"), "1 point");
        assert_eq!(counted(0, "point", "points"), "0 points");
        assert_eq!(counted(2000, "point", "points"), "2,000 points");
        for (seconds, shown) in [
            (0.0, "0 s"),
            (0.000_012, "under 1 ms"),
            (0.004_2, "4 ms"),
            (0.28, "0.28 s"),
            (9.499, "9.50 s"),
            (12.34, "12.3 s"),
            (59.7, "1 min 0 s"),
            (200.2, "3 min 20 s"),
            (3_900.0, "1 h 5 min"),
            (1e7, "2,777 h 46 min"),
            (f64::NAN, NONE),
            (-1.0, NONE),
            (f64::MAX, NONE),
        ] {
            assert_eq!(duration(seconds), shown, "{seconds}");
        }
        let time = "2026-11-22T03:00:00.123456789Z".parse().unwrap();
        assert_eq!(moment(time), "2026-11-22 03:00:00 UTC");
    }
}
