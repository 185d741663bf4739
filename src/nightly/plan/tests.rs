//! Plans that mean something, and plans that do not.

use serde_json::{Value, json};

use super::*;
use crate::base::error::Kind;

fn read(text: &str) -> Result<Plan> {
    let variable = |name: &str| (name == "KEY").then(|| "s3cr3t-key".to_owned());
    Plan::parse(Path::new("/plans/nightly.toml"), text, &variable)
}

const SMALL: &str = r#"
[archive]
place = "backups"
[servers.prod]
url = "http://prod:6333"
api_key_env = "KEY"
[[sources]]
server = "prod"
collections = ["album_*"]
"#;

#[test]
fn the_template_is_a_plan() {
    let plan = read(TEMPLATE).unwrap();
    assert_eq!(plan.name, "nightly");
    assert_eq!(plan.state, Path::new("/plans/backups.nightly/nightly"));
    assert_eq!(plan.publish.unwrap().alias, "album_master");
    assert_eq!(plan.keep.unwrap().daily, 30);
}

#[test]
fn the_template_shows_every_key_and_none_that_is_not_there() {
    // With every line that is commented out in, apart from prose and from what excludes another.
    let mut text = String::new();
    for line in TEMPLATE.lines() {
        let bare = line.trim_start_matches("# ");
        let (name, is_key) = match bare.split_once('=') {
            Some((name, _)) => (
                name.trim(),
                name.trim()
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c == '_'),
            ),
            None => (bare, bare.starts_with("[notify.") || bare == "[hooks]"),
        };
        let twice = [
            "api_key_file",
            "api_key_env",
            "webhook_env",
            "webhook",
            "sign_key",
            "encrypt",
        ];
        if (!line.starts_with('#') || is_key) && !twice.contains(&name) {
            text += bare;
            text.push('\n');
        }
    }
    let mut value: Value =
        serde_json::to_value(toml::from_str::<toml::Table>(&text).unwrap()).unwrap();
    value["notify"]["success"] = serde_json::json!({"webhook": "http://x"});
    assert_eq!(faults::faults(&value, &schema()), Vec::<String>::new());
    let schema = schema();
    for (part, table) in schema["$defs"].as_object().unwrap() {
        for key in table["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, _)| key)
        {
            // Keys that the machine may lack are shown too.
            let shown = TEMPLATE.contains(&format!("{key} = "))
                || TEMPLATE.contains(&format!("[notify.{key}]"));
            assert!(shown || key == "webhook_file", "{part}.{key} is not shown");
        }
    }
}

#[test]
fn paths_lie_beside_the_plan_and_secrets_are_not_shown() {
    let plan = read(SMALL).unwrap();
    assert_eq!(plan.archive.place, "/plans/backups");
    assert_eq!(plan.work, Path::new("/plans/backups.nightly/nightly/work"));
    assert_eq!(plan.sha256.len(), 64);
    assert!(!format!("{plan:?}").contains("s3cr3t"));
}

#[test]
fn every_fault_is_told_at_once() {
    let text = format!(
        "{SMALL}
[[sources]]
server = \"prot\"
collections = []
[master]
name = \"a/b\"
hnsw_m = 3
[publish]
server = \"prod\"
alias = \"\"
keep = 0
max_shrink = \"much\"
allow = [\"empti\"]
[keep]
[limits]
rate = \"fast\"
[report]
prometheus = \"metrics.txt\"
pushgateway = \"http://u:s3cr3t@push:9091\"
[notify.failure]
[notify.success]
webhook_env = \"https://hooks.example.org/s3cr3t\"
"
    );
    let err = read(&text).unwrap_err();
    assert_eq!(err.kind(), Kind::Usage);
    let told = err.to_string();
    for part in [
        "sources[1].server: there is no server prot in [servers]; did you mean prod?",
        "sources[1].collections",
        "master.name",
        "--hnsw-m wants 0 (no graph) or 4 to",
        "publish.alias",
        "publish.keep",
        "publish.max_shrink",
        "did you mean empty?",
        "keep: it is empty",
        "limits.rate",
        "report.prometheus",
        "report.pushgateway: it is no address",
        "notify.failure: it says neither",
        "notify.success.webhook_env: give the name of a variable",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("s3cr3t"), "{told}");
}

#[test]
fn keys_are_found_where_the_plan_says() {
    let missing = SMALL.replace("\"KEY\"", "\"OTHER\"");
    let err = read(&missing).unwrap_err();
    assert!(err.why().contains("the environment has no OTHER"), "{err}");
    let both = SMALL.replace("api_key_env", "api_key_file = \"k\"\napi_key_env");
    assert!(read(&both).unwrap_err().why().contains("give one of them"));
    let bucket = SMALL.replace("\"backups\"", "\"s3://b/x\"");
    assert!(read(&bucket).unwrap_err().why().contains("state"));
    let err = read("[archive\n").unwrap_err();
    assert!(err.why().contains("line 1"), "{err}");
}

#[test]
fn the_merge_gets_the_options_of_the_plan() {
    let text = format!(
        "{SMALL}
[master]
name = \"m\"
stamp = \"year\"
stamp_values = {{ album_2017 = 2017, b = \"x\" }}
filter = {{ must = [{{ key = \"a\", match = {{ value = true }} }}] }}
shards = 2
segments = 4
"
    );
    let master = read(&text).unwrap().master.unwrap();
    let options = serde_json::to_value(&master.options).unwrap();
    assert_eq!(options["stamp"], "year");
    assert_eq!(
        options["stamp_values"],
        json!({"album_2017": 2017, "b": "x"})
    );
    assert_eq!(
        options["filter"],
        json!({"must": [{"key": "a", "match": {"value": true}}]})
    );
    assert_eq!(options["shards"], 2);
    assert_eq!(options["segments"], 4);
    assert!(!master.live);
    let live = text.replace("stamp =", "route = \"replay\"\nstamp =");
    let live = format!("{live}[publish]\nserver = \"prod\"\nalias = \"m_now\"\n");
    assert!(read(&live).unwrap().master.unwrap().live);
}

#[test]
fn an_option_of_the_merge_that_is_not_there_is_told_with_the_nearest() {
    for (line, part) in [
        ("route = \"rebild\"", "did you mean rebuild?"),
        ("hnswm = 3", "did you mean hnsw_m?"),
        ("filter = { mst = [] }", "mst"),
        ("on_conflict = \"newest\"", "newest needs a payload field"),
        ("quantization = \"octal\"", "octal is no kind"),
        ("segments = 0", "it is too small"),
        ("segments = \"few\"", "it is one of keep, server, auto"),
        ("stamp_values = { a = 1 }", "they belong to a stamp"),
    ] {
        let err = read(&format!("{SMALL}[master]\nname = \"m\"\n{line}\n")).unwrap_err();
        assert!(err.to_string().contains(part), "{line}: {err}");
    }
}

#[test]
fn days_are_of_the_zone_that_the_plan_names() {
    let plan = read(&format!(
        "{SMALL}[keep]\ndaily = 2\ntimezone = \"Europe/Rome\"\n"
    ));
    assert_eq!(
        plan.unwrap().keep.unwrap().timezone.unwrap().name(),
        "Europe/Rome"
    );
    let wrong = read(&format!(
        "{SMALL}[keep]\ndaily = 2\ntimezone = \"Europe/Roma\"\n"
    ));
    let told = wrong.unwrap_err().to_string();
    assert!(told.contains("timezone: there is no such"), "{told}");
    assert!(told.contains("such as Europe/Rome"), "{told}");
}
