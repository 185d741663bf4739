//! The manual: help, completions and man pages as a user gets them; and the page for the worst day,
//! followed to the letter on a real server.

use std::path::Path;
use std::process::Command;

use snapmerge::manual::{PAGES, Page};

use crate::merge::policies::expected;
use crate::server::live::fill;
use crate::server::run_with;
use crate::support::points::ensure_same;
use crate::support::qdrant::Server;
use crate::support::{Env, Outcome, Trial, names_in, program, temp_dir};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let bash = program("bash", "--version", "Debian's bash");
    let man = program("man", "--version", "Debian's man-db");
    vec![
        Trial::new("manual/help", help),
        Trial::needs("manual/completions", &bash, |bash| completions(&bash)),
        Trial::needs(
            "manual/completions_zsh",
            &program("zsh", "--version", "Debian's zsh"),
            |zsh| completions_zsh(&zsh),
        ),
        Trial::needs(
            "manual/completions_fish",
            &program("fish", "--version", "Debian's fish"),
            |fish| completions_fish(&fish),
        ),
        Trial::needs("manual/man", &man, |man| man_pages(&man)),
        env.live("manual/getting_started", |bin| getting_started(env, bin)),
        env.live("manual/disaster", |bin| disaster(env, bin)),
    ]
}

fn help() -> Outcome {
    let run = cli!["help"].run()?.ok()?;
    for page in PAGES {
        ensure!(run.stdout.contains(page.topic), "{} is missing", page.topic);
        let shown = cli!["help", page.topic].run()?.ok()?;
        ensure_eq!(shown.stdout, page.plain(), "page {}", page.topic);
        ensure!(!shown.stdout.contains("```"), "fences on {}", page.topic);
    }
    let run = cli!["help", "archive", "forget"].run()?.ok()?;
    ensure!(run.stdout.contains("--keep-daily"), "{}", run.told());
    cli!["help", "nonsense"]
        .run()?
        .code(2)?
        .says(&["nonsense is neither a topic nor a verb", "snapmerge help"])?;
    Ok(())
}

/// The shell completes verbs and options by what is printed.
fn completions(bash: &Path) -> Outcome {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let run = cli!["completions", shell].run()?.ok()?;
        ensure!(run.stdout.contains("verify-chain"), "{shell}");
    }
    let dir = temp_dir()?;
    let file = dir.path().join("snapmerge.bash");
    std::fs::write(&file, cli!["completions", "bash"].run()?.ok()?.stdout)?;
    for (typed, word, want) in [
        ("snapmerge arch", "arch", "archive"),
        ("snapmerge archive verify", "verify", "verify-chain"),
        ("snapmerge merge --on-con", "--on-con", "--on-conflict"),
    ] {
        let words = typed.split(' ').count() - 1;
        let script = format!(
            "source {}; COMP_WORDS=({typed}); COMP_CWORD={words}; _snapmerge snapmerge {word} ''; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            file.display()
        );
        let output = Command::new(bash).args(["-c", &script]).output()?;
        let told = String::from_utf8_lossy(&output.stdout);
        ensure!(
            told.lines().any(|line| line == want),
            "{typed}: {told}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// What a shell prints that ran `script` with the completions for `shell` in $FILE.
fn completed(bin: &Path, shell: &str, args: &[&str]) -> Outcome<String> {
    let dir = temp_dir()?;
    let file = dir.path().join("completions");
    std::fs::write(&file, cli!["completions", shell].run()?.ok()?.stdout)?;
    let output = Command::new(bin)
        .args(args)
        .env("FILE", &file)
        .env("HOME", dir.path())
        .output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success() && told.is_empty(),
        "{shell}: {told}"
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Zsh takes the function, and calls it for the program.
fn completions_zsh(zsh: &Path) -> Outcome {
    let script = "autoload -U compinit; compinit -D -u; source $FILE; print -r -- $_comps[snapmerge]; \
                  functions _snapmerge | grep -c verify-chain";
    let told = completed(zsh, "zsh", &["-f", "-c", script])?;
    let lines: Vec<&str> = told.lines().collect();
    ensure!(
        lines.first() == Some(&"_snapmerge") && lines.get(1).is_some_and(|count| *count != "0"),
        "{told}"
    );
    Ok(())
}

/// Fish completes a verb of a verb.
fn completions_fish(fish: &Path) -> Outcome {
    let script = "source $FILE; complete -C 'snapmerge archive verify'";
    let told = completed(fish, "fish", &["--no-config", "-c", script])?;
    ensure!(told.starts_with("verify-chain\t"), "{told}");
    Ok(())
}

/// `man` shows a page of each verb and of each topic.
fn man_pages(man: &Path) -> Outcome {
    let dir = temp_dir()?;
    for _ in ["new", "written over"] {
        cli!["man", dir.path()].run()?.ok()?;
    }
    let pages = names_in(&dir.path().join("man7"))?;
    ensure_eq!(pages.len(), PAGES.len(), "pages of topics");
    let mut verbs = names_in(&dir.path().join("man1"))?;
    verbs.extend(pages);
    ensure!(verbs.len() > 40, "only {verbs:?}");
    for page in verbs {
        let name = page.rsplit_once('.').map_or("", |(name, _)| name);
        let output = Command::new(man)
            .args(["--warnings", "-E", "UTF-8", "-P", "cat", "-M"])
            .arg(dir.path())
            .arg(name)
            .output()?;
        let shown = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success() && shown.contains(name) && output.stderr.is_empty(),
            "{name}: {shown}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// The commands of the page, one after the other, as a shell runs them.
fn getting_started(env: &Env, bin: &Path) -> Outcome {
    let dir = temp_dir()?;
    let albums = ["album_2017", "album_2018"];
    let server = Server::start(bin)?;
    let points = fill(env, &server, &albums)?;
    let want = expected(&albums, &points, "last")?;
    let snapmerge = env!("CARGO_BIN_EXE_snapmerge");
    let typed = |line: &str, code: i32| -> Outcome {
        let line = line.replace("http://localhost:6333", &server.url());
        let here = line.replace("/usr", &dir.path().join("usr").display().to_string());
        let script = format!("snapmerge() {{ {snapmerge} \"$@\"; }}; {here}");
        let ended = Command::new("bash")
            .args(["-c", &script])
            .current_dir(dir.path())
            .env("XDG_STATE_HOME", dir.path())
            .output()?;
        let told = String::from_utf8_lossy(&ended.stderr);
        ensure_eq!(ended.status.code(), Some(code), "{line}: {told}");
        Ok(())
    };
    std::fs::create_dir_all(dir.path().join("usr/share/bash-completion/completions"))?;
    let page = Page::of("getting-started").ok_or("there is no such page")?;
    let mut followed = 0;
    for line in page.commands() {
        if line.starts_with("snapmerge rollback") {
            // There is an earlier master only after another one.
            typed(line, 12)?;
            let second = "http://localhost:6333/album_master_second";
            typed(
                &format!("snapmerge restore album_master.snapshot --to {second}"),
                0,
            )?;
            typed(
                "snapmerge publish http://localhost:6333 album_master_second --alias album_master",
                0,
            )?;
        }
        typed(line, 0)?;
        followed += 1;
    }
    ensure!(followed >= 9, "only {followed} commands");
    ensure_same(&server.scroll("album_master")?, want.points.values())?;
    let aliases = server.get("/aliases")?;
    let points_to = &aliases["aliases"][0]["collection_name"];
    ensure_eq!(
        points_to,
        "album_master_20261122",
        "the alias after the rollback"
    );
    ensure!(
        dir.path().join("usr/local/share/man/man1").exists(),
        "the man pages"
    );
    Ok(())
}

/// The commands of the page, one after the other, against a new server: it then has what the lost one
/// had.
fn disaster(env: &Env, bin: &Path) -> Outcome {
    let dir = temp_dir()?;
    let albums = ["album_2017", "album_2018", "album_2019_overlap"];
    let run = |line: &str, url: &str| -> Outcome {
        let line = line.replace("http://dr:6333", url);
        let words = line.split_whitespace().skip(1);
        let words: Vec<&str> = words.map(|word| word.trim_matches('\'')).collect();
        let ended = run_with(dir.path(), &words).dir(dir.path()).run()?;
        ended
            .ok()
            .map_err(|e| format!("{line}: {}", e.message().unwrap_or("?")))?;
        Ok(())
    };
    let lost = Server::start(bin)?;
    let points = fill(env, &lost, &albums)?;
    let want = expected(&albums, &points, "last")?;
    let url = lost.url();
    for line in [
        "snapmerge archive init --archive backups",
        "snapmerge capture http://dr:6333 album_* --archive backups",
        "snapmerge merge archive:album_20* --archive backups -o m.snapshot",
        "snapmerge archive add m.snapshot --name album_master --archive backups",
    ] {
        run(line, &url)?;
    }
    std::fs::remove_file(dir.path().join("m.snapshot"))?;
    drop(lost);

    let server = Server::start(bin)?;
    let page = Page::of("disaster").ok_or("there is no such page")?;
    let mut followed = 0;
    for line in page.commands() {
        run(line, &server.url())?;
        followed += 1;
    }
    ensure!(followed >= 10, "only {followed} commands");
    for (album, points) in albums.iter().zip(&points) {
        ensure_same(&server.scroll(album)?, points)?;
    }
    for name in ["album_master", "album_master_restored", "album_master_new"] {
        ensure_same(&server.scroll(name)?, want.points.values())?;
    }
    let aliases = server.get("/aliases")?;
    ensure_eq!(
        aliases["aliases"][0]["collection_name"],
        "album_master_new",
        "the alias"
    );
    Ok(())
}
