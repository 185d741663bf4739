//! The policy, case by case.

use super::*;
use crate::base::error::Kind as ErrorKind;

/// Entries as `DAY`, `DAYTHH`, or `NAME:DAY`, with `#TAG` at the end; what is kept is marked by `+`.
struct Case {
    about: &'static str,
    policy: Policy,
    entries: &'static [&'static str],
}

fn keep(last: u32, daily: u32, weekly: u32, monthly: u32, yearly: u32) -> Policy {
    Policy {
        last,
        daily,
        weekly,
        monthly,
        yearly,
        tags: Vec::new(),
        timezone: None,
    }
}

fn in_zone(mut policy: Policy, zone: &str) -> Policy {
    policy.timezone = Some(parse_timezone(zone).unwrap());
    policy
}

/// When all of this is decided.
fn now() -> DateTime<Utc> {
    "2050-01-01T00:00:00Z".parse().unwrap()
}

fn tagged(mut policy: Policy, tags: &[&str]) -> Policy {
    policy.tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
    policy
}

fn candidate(text: &str) -> (Candidate, bool) {
    let (text, kept) = match text.strip_prefix('+') {
        Some(text) => (text, true),
        None => (text, false),
    };
    let (name, rest) = text.split_once(':').unwrap_or(("a", text));
    let mut parts = rest.split('#');
    let day = parts.next().unwrap();
    let tags = parts.map(str::to_owned).collect();
    let time = match day.split_once('T') {
        Some((day, hour)) => format!("{day}T{hour}:00:00Z"),
        None => format!("{day}T03:00:00Z"),
    };
    let candidate = Candidate {
        id: format!("{name}@{day}"),
        name: name.to_owned(),
        time: time.parse().unwrap(),
        tags,
    };
    (candidate, kept)
}

fn cases() -> Vec<Case> {
    let case = |about, policy, entries| Case {
        about,
        policy,
        entries,
    };
    vec![
        case("nothing to decide on", keep(1, 0, 0, 0, 0), &[]),
        case("the newest of one", keep(1, 0, 0, 0, 0), &["+2026-11-01"]),
        case(
            "the newest of two",
            keep(1, 0, 0, 0, 0),
            &["2026-11-01", "+2026-11-02"],
        ),
        case(
            "whatever the order",
            keep(1, 0, 0, 0, 0),
            &["+2026-11-02", "2026-11-01"],
        ),
        case(
            "two of three",
            keep(2, 0, 0, 0, 0),
            &["2026-11-01", "+2026-11-02", "+2026-11-03"],
        ),
        case(
            "more than there are",
            keep(9, 0, 0, 0, 0),
            &["+2026-11-01", "+2026-11-02"],
        ),
        case(
            "last counts entries, not days",
            keep(2, 0, 0, 0, 0),
            &["2026-11-01T01", "+2026-11-01T02", "+2026-11-01T03"],
        ),
        case(
            "of the same time the later stored",
            keep(1, 0, 0, 0, 0),
            &["2026-11-01", "+2026-11-01"],
        ),
        case(
            "a day keeps its newest",
            keep(0, 1, 0, 0, 0),
            &["2026-11-01T01", "+2026-11-01T23"],
        ),
        case(
            "a day keeps one",
            keep(0, 5, 0, 0, 0),
            &["2026-11-01T01", "2026-11-01T02", "+2026-11-01T03"],
        ),
        case(
            "days that have none do not count",
            keep(0, 2, 0, 0, 0),
            &["2026-01-01", "+2026-06-01", "+2026-11-01"],
        ),
        case(
            "three days",
            keep(0, 3, 0, 0, 0),
            &["2026-11-01", "+2026-11-02", "+2026-11-03", "+2026-11-04"],
        ),
        case(
            "midnight divides days",
            keep(0, 1, 0, 0, 0),
            &["2026-10-31T23", "+2026-11-01T00"],
        ),
        case(
            "both sides of midnight",
            keep(0, 2, 0, 0, 0),
            &["+2026-10-31T23", "+2026-11-01T00"],
        ),
        case(
            "a week is Monday to Sunday",
            keep(0, 0, 1, 0, 0),
            &["2026-11-22", "+2026-11-23", "2026-11-16"],
        ),
        case(
            "Monday and Sunday are one week",
            keep(0, 0, 2, 0, 0),
            &["2026-11-16", "+2026-11-22"],
        ),
        case(
            "two weeks",
            keep(0, 0, 2, 0, 0),
            &[
                "2026-11-08",
                "2026-11-10",
                "+2026-11-15",
                "2026-11-16",
                "+2026-11-22",
            ],
        ),
        case(
            "a week over New Year is one",
            keep(0, 0, 2, 0, 0),
            &["2026-12-31", "+2027-01-03"],
        ),
        case(
            "the first Monday is another",
            keep(0, 0, 2, 0, 0),
            &["+2027-01-03", "+2027-01-04"],
        ),
        case(
            "week 53 is not week 1",
            keep(0, 0, 2, 0, 0),
            &["+2020-12-31", "+2021-01-04"],
        ),
        case(
            "the same week of another year",
            keep(0, 0, 2, 0, 0),
            &["+2025-11-20", "+2026-11-20"],
        ),
        case(
            "a month keeps its newest",
            keep(0, 0, 0, 1, 0),
            &["2026-11-01", "+2026-11-30"],
        ),
        case(
            "two months",
            keep(0, 0, 0, 2, 0),
            &["2026-09-30", "2026-10-01", "+2026-10-31", "+2026-11-02"],
        ),
        case(
            "the same month of another year",
            keep(0, 0, 0, 2, 0),
            &["+2025-11-30", "+2026-11-01"],
        ),
        case(
            "months without any do not count",
            keep(0, 0, 0, 2, 0),
            &["2024-01-01", "+2025-01-01", "+2026-11-01"],
        ),
        case(
            "a leap day is February's",
            keep(0, 0, 0, 2, 0),
            &["2024-02-28", "+2024-02-29", "+2024-03-01"],
        ),
        case(
            "a year keeps its newest",
            keep(0, 0, 0, 0, 1),
            &["2026-01-01", "+2026-12-31"],
        ),
        case(
            "two years",
            keep(0, 0, 0, 0, 2),
            &["2024-12-31", "+2025-12-31", "+2026-01-01"],
        ),
        case(
            "years without any do not count",
            keep(0, 0, 0, 0, 2),
            &["2001-01-01", "+2003-01-01", "+2026-01-01"],
        ),
        case(
            "New Year divides years",
            keep(0, 0, 0, 0, 2),
            &["+2025-12-31T23", "+2026-01-01T00"],
        ),
        case(
            "rules add up",
            keep(1, 2, 0, 0, 0),
            &[
                "2026-11-01",
                "+2026-11-02",
                "2026-11-03T01",
                "+2026-11-03T02",
            ],
        ),
        case(
            "last and monthly",
            keep(2, 0, 0, 2, 0),
            &[
                "2026-10-01",
                "+2026-10-31",
                "2026-11-01",
                "+2026-11-02",
                "+2026-11-03",
            ],
        ),
        case(
            "daily, weekly, monthly, yearly",
            keep(0, 2, 2, 2, 2),
            &[
                "2025-11-01",
                "+2025-12-31",
                "2026-10-01",
                "+2026-10-31",
                "2026-11-14",
                "+2026-11-15",
                "2026-11-20",
                "+2026-11-21",
                "+2026-11-22",
            ],
        ),
        case(
            "one entry for several reasons counts for each",
            keep(1, 1, 1, 1, 1),
            &["2026-11-20", "2026-11-21", "+2026-11-22"],
        ),
        case(
            "names do not compete",
            keep(1, 0, 0, 0, 0),
            &["+a:2026-11-01", "b:2026-11-02", "+b:2026-11-03"],
        ),
        case(
            "days of names do not compete",
            keep(0, 1, 0, 0, 0),
            &["+a:2026-11-01T01", "+b:2026-11-01T02"],
        ),
        case(
            "a name that begins the same is another",
            keep(1, 0, 0, 0, 0),
            &["+a:2026-11-01", "+ab:2026-11-02"],
        ),
        case(
            "a tag keeps",
            tagged(keep(1, 0, 0, 0, 0), &["x"]),
            &["+2026-10-01#x", "2026-10-02", "+2026-10-03"],
        ),
        case(
            "a tag alone is a policy",
            tagged(keep(0, 0, 0, 0, 0), &["x"]),
            &["+2026-10-01#x", "2026-10-02#y", "2026-10-03"],
        ),
        case(
            "one of several tags",
            tagged(keep(0, 0, 0, 0, 0), &["x", "z"]),
            &["+2026-10-01#y#z", "2026-10-02#y", "+2026-10-03#x"],
        ),
        case(
            "a tag is the whole word",
            tagged(keep(0, 0, 0, 0, 0), &["x"]),
            &["2026-10-01#xy", "2026-10-02#X"],
        ),
        case(
            "a tagged entry counts among the last",
            tagged(keep(1, 0, 0, 0, 0), &["x"]),
            &["2026-10-01", "+2026-10-02#x"],
        ),
        case(
            "the future takes nobody's place",
            keep(1, 1, 0, 0, 0),
            &["2026-10-31", "+2026-11-01", "+2999-01-01", "+2999-01-02"],
        ),
        case(
            "a day of another zone is no future",
            keep(1, 0, 0, 0, 0),
            &["2026-11-01", "+2050-01-01T14"],
        ),
        case(
            "days begin at midnight in UTC",
            keep(0, 3, 0, 0, 0),
            &[
                "2026-10-24T21",
                "+2026-10-24T22",
                "2026-10-25T22",
                "+2026-10-25T23",
            ],
        ),
        case(
            "or in a zone, whose day has 25 hours when summer time ends",
            in_zone(keep(0, 3, 0, 0, 0), "Europe/Rome"),
            &[
                "+2026-10-24T21",
                "2026-10-24T22",
                "+2026-10-25T22",
                "+2026-10-25T23",
            ],
        ),
        case(
            "and 23 when it begins",
            in_zone(keep(0, 3, 0, 0, 0), "Europe/Rome"),
            &[
                "+2026-03-28T22",
                "2026-03-28T23",
                "+2026-03-29T21",
                "+2026-03-29T22",
            ],
        ),
        case(
            "of the hour that comes twice the second is the newer",
            in_zone(keep(0, 1, 0, 0, 0), "Europe/Rome"),
            &["2026-10-25T00", "+2026-10-25T01"],
        ),
        case(
            "years, months and weeks begin there, too",
            in_zone(keep(0, 0, 2, 2, 2), "Europe/Rome"),
            &["+2026-12-31T22", "2026-12-31T23", "+2027-01-01T05"],
        ),
        case(
            "a day that there never was",
            in_zone(keep(0, 2, 0, 0, 0), "Pacific/Apia"),
            &[
                "2011-12-30T08",
                "+2011-12-30T09",
                "2011-12-30T10",
                "+2011-12-31T09",
            ],
        ),
        case(
            "the distant past neither",
            keep(0, 0, 0, 0, 3),
            &["+1969-12-31", "+1970-01-01", "+2026-01-01"],
        ),
    ]
}

#[test]
fn every_case_keeps_what_it_says() {
    let cases = cases();
    assert!(cases.len() >= 40, "{}", cases.len());
    for case in cases {
        let (candidates, kept): (Vec<Candidate>, Vec<bool>) =
            case.entries.iter().map(|text| candidate(text)).unzip();
        let decisions = case.policy.decide(&candidates, now()).unwrap();
        assert_eq!(decisions.len(), candidates.len());
        for ((decision, candidate), kept) in decisions.iter().zip(&candidates).zip(kept) {
            assert_eq!(decision.id, candidate.id);
            assert_eq!(decision.keep, kept, "{}: {decision:?}", case.about);
            assert!(!decision.reasons.is_empty(), "{}", case.about);
        }
    }
}

#[test]
fn reasons_say_which_rule() {
    let texts = [
        "2025-12-31",
        "2026-11-01#x",
        "2026-11-20",
        "2026-11-21",
        "2026-11-22",
    ];
    let candidates: Vec<Candidate> = texts.iter().map(|text| candidate(text).0).collect();
    let policy = tagged(keep(2, 1, 1, 1, 2), &["x"]);
    let reasons: Vec<String> = policy
        .decide(&candidates, now())
        .unwrap()
        .into_iter()
        .map(|decision| decision.reasons.join("; "))
        .collect();
    assert_eq!(
        reasons,
        [
            "the newest of year 2025",
            "tag x",
            "no rule keeps it",
            "among the newest 2",
            "the newest; the newest of day 2026-11-22; the newest of week 2026-W47; the newest of \
             month 2026-11; the newest of year 2026",
        ]
    );
}

#[test]
fn the_future_and_the_zone_are_told() {
    let texts = ["2026-10-24T22", "2999-01-01"];
    let candidates: Vec<Candidate> = texts.iter().map(|text| candidate(text).0).collect();
    let policy = in_zone(keep(0, 1, 0, 0, 0), "Europe/Rome");
    let decisions = policy.decide(&candidates, now()).unwrap();
    assert_eq!(decisions[0].reasons, ["the newest of day 2026-10-25"]);
    assert!(decisions[1].reasons[0].contains("in the future"));
    let told: Vec<bool> = decisions.iter().map(|one| one.is_in_future).collect();
    assert_eq!(told, [false, true]);
    let json = serde_json::to_string(&policy).unwrap();
    assert!(json.contains("Europe/Rome"), "{json}");
    assert_eq!(serde_json::from_str::<Policy>(&json).unwrap(), policy);
    assert!(
        parse_timezone("Europe/Roma")
            .unwrap_err()
            .contains("Europe/Rome")
    );
    assert!(parse_timezone("CEST+9").is_err());
}

#[test]
fn an_empty_policy_is_refused() {
    let err = Policy::default().decide(&[], now()).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Usage);
    assert!(keep(0, 0, 0, 0, 1).validate().is_ok());
}

/// Decided again after what was given up is gone, nothing more is given up.
#[test]
fn a_decision_is_final() {
    for case in cases() {
        let candidates: Vec<Candidate> =
            case.entries.iter().map(|text| candidate(text).0).collect();
        let decisions = case.policy.decide(&candidates, now()).unwrap();
        let left: Vec<Candidate> = candidates
            .into_iter()
            .zip(&decisions)
            .filter(|(_, decision)| decision.keep)
            .map(|(candidate, _)| candidate)
            .collect();
        let again = case.policy.decide(&left, now()).unwrap();
        assert!(again.iter().all(|decision| decision.keep), "{}", case.about);
    }
}
