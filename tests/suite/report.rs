//! `report`: the JSON of other commands as a page, looked at as text and in a real browser.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use snapmerge::base::error::Error;
use snapmerge::nightly::{How, RunMaster, RunOutcome, RunReport, RunSource, RunStep};

use crate::merge::{ALBUMS, Sources};
use crate::support::{Env, Outcome, Trial, names_in};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let browser = browser();
    vec![
        Trial::new("report/pages", || pages(env)),
        Trial::new("report/refuses", || refuses(env)),
        Trial::needs("report/browser", &browser, |browser| {
            in_browser(env, &browser)
        }),
    ]
}

/// A headless Chromium.
fn browser() -> Result<PathBuf, String> {
    for name in ["chromium", "chromium-browser", "google-chrome"] {
        let there = Command::new(name).arg("--version").output();
        if there.is_ok_and(|output| output.status.success()) {
            return Ok(name.into());
        }
    }
    Err("there is no chromium".into())
}

/// The three albums' merge, verified with everything, and the pages of both.
fn reports(env: &Env) -> Outcome<(Sources, Value, Value)> {
    let sources = Sources::named(env, &ALBUMS)?;
    let master = sources.merge(&["--route", "rebuild", "--shards", "2"])?;
    let run = cli![
        "verify",
        &master.path,
        "-q",
        "--json",
        "--queries",
        "20",
        "--structure",
        "150"
    ]
    .arg("--against")
    .args(&sources.files)
    .run()?
    .ok()?;
    let verified = run.json()?;
    std::fs::write(sources.path("verify.json"), &run.stdout)?;
    std::fs::write(sources.path("merge.json"), master.report.to_string())?;
    Ok((sources, verified, master.report))
}

fn page(sources: &Sources, reports: &[&str]) -> Outcome<String> {
    let output = sources.path("report.html");
    cli!["report", "--force", "-o", &output]
        .args(reports.iter().map(|name| sources.path(name)))
        .run()?
        .ok()?;
    // Where it may break, and where not, is not seen.
    let text = std::fs::read_to_string(output)?;
    Ok(text.replace("<wbr>", "").replace('\u{a0}', " "))
}

fn pages(env: &Env) -> Outcome {
    let (sources, verified, merged) = reports(env)?;
    let text = page(&sources, &["verify.json", "merge.json"])?;
    let of_master = verified["points"]["digest"]["points"]
        .as_str()
        .ok_or("no digest")?;
    let sha256 = merged["master"]["sha256"].as_str().ok_or("no hash")?;
    for part in [
        ">PROVEN<",
        "MERGED AND PROVEN",
        "What to do next",
        "2,800 points",
        "200 ids are in more than one source",
        "album_2019_overlap",
        "Recall by index",
        "Points per shard and segment",
        "The master in a plane",
        of_master,
        sha256,
    ] {
        ensure!(text.contains(part), "the page lacks {part:?}");
    }
    for outside in ["<script", "<link", " src=", "@import", "href="] {
        ensure!(!text.contains(outside), "the page has {outside:?}");
    }
    // A diff is shown too, and what differs is said first.
    let run = cli!["diff", "-q", "--json", &sources.files[1], &sources.files[2]]
        .run()?
        .code(3)?;
    std::fs::write(sources.path("diff.json"), run.stdout)?;
    let text = page(&sources, &["diff.json"])?;
    ensure!(
        text.contains(">DIFFERENT<") && text.contains("800"),
        "the page of a diff"
    );
    Ok(())
}

fn refuses(env: &Env) -> Outcome {
    let sources = Sources::named(env, &["uint8"])?;
    let before = names_in(sources.dir())?;
    let output = sources.path("report.html");
    cli!["report", &sources.files[0], "-o", &output]
        .run()?
        .code(2)?
        .says(&["not one JSON value"])?;
    let plan = cli!["merge", "--dry-run", "--json", "-o", sources.path("m")]
        .args(&sources.files)
        .run()?
        .ok()?;
    let path = sources.path("plan.json");
    std::fs::write(&path, plan.stdout)?;
    cli!["report", &path, "-o", &output]
        .run()?
        .code(2)?
        .says(&["snapmerge-merge-plan/2"])?;
    std::fs::remove_file(path)?;
    ensure_eq!(names_in(sources.dir())?, before, "files afterwards");
    Ok(())
}

/// What a headless browser prints of a page in the folder of `sources`.
fn browse(browser: &Path, sources: &Sources, page: &str, args: &[&str]) -> Outcome<String> {
    let output = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
        ])
        .arg(format!(
            "--user-data-dir={}",
            sources.path("browser").display()
        ))
        .args(args)
        .arg(format!("file://{}", sources.path(page).display()))
        .output()?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "the browser failed: {told}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// At the width of a telephone and of a desk, with names that nobody would choose: nothing is cut, no word
/// breaks in its middle, the card is on the first screen, and the letters of charts can be read.
fn layout(browser: &Path, sources: &Sources, verified: &Value) -> Outcome {
    let mut verified = verified.clone();
    let names = verified["sources"].as_array_mut().ok_or("no sources")?;
    let long = "photographs-of-the-municipal-archive.scanned_2018-2019.clip_vit_l14_normalized";
    for (source, name) in names.iter_mut().zip([long, "<script>alert(1)</script>"]) {
        source["name"] = Value::from(name);
    }
    std::fs::write(sources.path("long.json"), verified.to_string())?;
    let text = page(sources, &["long.json", "merge.json"])?;
    ensure!(!text.contains("<script"), "a name is a script");
    let found = looked(browser, sources)?;
    ensure!(
        found[0] > 500 && found[1] > 40,
        "too little was looked at: {found:?}"
    );
    // And a night, with the 29 before it.
    for day in 1..=30 {
        let name = format!("night_202611{day:02}_030000.json");
        std::fs::write(sources.path(&name), night(day, long)?)?;
    }
    let text = page(sources, &["night_20261130_030000.json"])?;
    for part in ["History: the last 30 runs", "28 of 30 runs done"] {
        ensure!(text.contains(part), "the page of a night lacks {part}");
    }
    let found = looked(browser, sources)?;
    ensure!(
        found[0] > 300 && found[1] >= 8,
        "too little was looked at: {found:?}"
    );
    Ok(())
}

/// The report of a night: the 10th failed, the 30th differs.
fn night(day: u32, long: &str) -> Outcome<String> {
    let started = format!("2026-11-{day:02}T03:00:00.123456789Z").parse()?;
    let id = format!("202611{day:02}_030000");
    let place = "/srv/backups/qdrant-production.eu-central-1/snapmerge";
    let mut report = RunReport::begin("night", place, &id, started, false);
    report.archive.entries = 1_234;
    report.archive.new_bytes = u64::from(day) << 30;
    for name in ["album_2017", long] {
        let step = format!("capture prod/{name}");
        report.steps.push(RunStep {
            step,
            seconds: f64::from(day) * 10.0,
            earlier: false,
        });
        report.sources.push(RunSource {
            name: name.into(),
            collection: name.into(),
            server: "prod".into(),
            how: How::Captured,
            entry: Some(format!("{name}@2026-11-{day:02}T03:00:00Z")),
            points: Some(u64::from(day) * 1_000_000),
            bytes: u64::from(day) << 32,
            new_bytes: u64::from(day) << 28,
            moved_bytes: Some(u64::from(day) << 28),
            note: None,
        });
    }
    if day == 10 {
        let err = Error::failed("making a snapshot", "10.20.30.40:6333 cannot be reached");
        report.failed(
            &format!("capture prod/{long}"),
            &err.next("look at its disk"),
        );
    } else {
        report.master = Some(RunMaster {
            name: "album_master".into(),
            unchanged: false,
            entry: Some(format!("album_master@2026-11-{day:02}T03:10:00Z")),
            route: "graft".into(),
            points: u64::from(day) * 2_000_000,
            bytes: Some(u64::from(day) << 33),
            sha256: Some("0123456789abcdef".repeat(4)),
            proven: started,
            collection: Some(format!("album_master_{id}")),
            alias: Some("album_master".into()),
            before: Some("album_master_20261101_030000".into()),
        });
    }
    if day == 30 {
        report.run_outcome = RunOutcome::Differs;
        let moved = format!("somebody else has moved album_master: it points to {long}");
        report.differs.push(moved);
    }
    Ok(serde_json::to_string(&report)?)
}

/// Words and labels of charts that were looked at on the page; none of them may be at fault.
fn looked(browser: &Path, sources: &Sources) -> Outcome<[u64; 2]> {
    std::fs::write(sources.path("layout.html"), include_str!("layout.html"))?;
    let args = [
        "--allow-file-access-from-files",
        "--virtual-time-budget=5000",
        "--dump-dom",
    ];
    let dom = browse(browser, sources, "layout.html", &args)?;
    let result = dom
        .split("<pre id=\"result\">")
        .nth(1)
        .and_then(|rest| rest.split("</pre>").next())
        .ok_or_else(|| format!("no result: {dom}"))?;
    let result: Value = serde_json::from_str(result).map_err(|err| format!("{result}: {err}"))?;
    ensure_eq!(result["faults"], Value::Array(Vec::new()), "the layout");
    let looked_at = |what: &str| result[what].as_u64().unwrap_or(0);
    Ok([looked_at("words"), looked_at("labels")])
}

/// In a browser: the verdict can be read, every chart is drawn with the values of the report, and nothing
/// is fetched.
fn in_browser(env: &Env, browser: &Path) -> Outcome {
    let (sources, verified, _) = reports(env)?;
    layout(browser, &sources, &verified)?;
    page(&sources, &["verify.json", "merge.json"])?;
    let run = |args: &[&str]| browse(browser, &sources, "report.html", args);
    let dom = run(&["--dump-dom"])?;
    let verdict = dom
        .split("id=\"verdict\">")
        .nth(1)
        .and_then(|rest| rest.split('<').next());
    ensure_eq!(verdict, Some("PROVEN"), "the verdict on the page");
    // What a screen reader reads of the charts is what the report says.
    let labels: Vec<&str> = dom
        .split("aria-label=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    let of = |title: &str| -> Outcome<String> {
        let found = labels.iter().find(|label| label.starts_with(title));
        Ok((*found.ok_or_else(|| format!("no chart {title:?} among {labels:?}"))?).to_owned())
    };
    let shares = of("Points of each source in the master: ")?;
    for (source, points) in ALBUMS.iter().zip([1000, 800, 1000]) {
        let points = match points {
            1000 => "1,000".to_owned(),
            few => few.to_string(),
        };
        ensure!(shares.contains(&format!("{source} {points}")), "{shares}");
    }
    let recalls = of("Recall by index: ")?;
    for kind in verified["answers"]["kinds"].as_array().ok_or("no kinds")? {
        let recall = kind["recall_mean"].as_f64().ok_or("no recall")?;
        ensure!(
            recalls.contains(&format!("{recall:.3}")),
            "{recall} is not in {recalls}"
        );
    }
    of("The master in a plane: 150 points")?;
    let circles = dom.matches("<circle").count();
    ensure_eq!(circles, 150, "points that are drawn");
    for how in [
        &["--window-size=1000,3000"][..],
        &["--window-size=400,3000", "--force-dark-mode"][..],
    ] {
        let picture = sources.path("page.png");
        let shot = format!("--screenshot={}", picture.display());
        run(&[how, &[shot.as_str()]].concat())?;
        let bytes = std::fs::metadata(&picture)?.len();
        ensure!(bytes > 20_000, "a picture of {bytes} bytes shows nothing");
        std::fs::remove_file(picture)?;
    }
    Ok(())
}
