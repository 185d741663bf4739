//! Keys made by OpenSSL, so that a fault in how the program makes or reads keys is not made here too.

use std::path::Path;
use std::process::Command;

use super::Outcome;

/// Whether there is one; why not.
pub fn is_there() -> Result<(), String> {
    match Command::new("openssl").arg("version").output() {
        Ok(output) if output.status.success() => Ok(()),
        _ => Err("there is no openssl".to_owned()),
    }
}

/// Makes the ed25519 keys `NAME.pem` and `NAME.pub` in `folder`.
pub fn make_keys(folder: &Path, name: &str) -> Outcome {
    let (key, public) = (format!("{name}.pem"), format!("{name}.pub"));
    run(folder, &["genpkey", "-algorithm", "ed25519", "-out", &key])?;
    run(folder, &["pkey", "-in", &key, "-pubout", "-out", &public])
}

fn run(folder: &Path, args: &[&str]) -> Outcome {
    let run = Command::new("openssl")
        .current_dir(folder)
        .args(args)
        .output()?;
    ensure!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    Ok(())
}
