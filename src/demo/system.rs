//! What the demo needs of the operating system beyond the standard library: signals, other processes' command lines,
//! users. It runs small programs that every Unix has, because there is no unsafe code here.

use std::path::Path;
use std::process::{Command, Stdio};

/// Sends a signal, by its name as in `TERM`. A process that has just ended is no error.
pub(super) fn signal(process: u32, name: &str) {
    // The shell's own `kill`: the program of that name is not everywhere.
    let script = format!("kill -{name} {process}");
    let quiet = |command: &mut Command| {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()
    };
    let _ = quiet(Command::new("sh").args(["-c", &script]));
}

/// Whether this process runs and was started with `folder` on its command line: a number in a file alone proves
/// nothing, as numbers are used again.
pub(super) fn works_in(process: u32, folder: &Path) -> bool {
    let Some(folder) = folder.to_str() else { return false };
    let line = match std::fs::read(format!("/proc/{process}/cmdline")) {
        Ok(bytes) => bytes,
        Err(_) if Path::new("/proc/self/cmdline").exists() => return false,
        // No /proc, as on macOS.
        Err(_) => {
            let ps = Command::new("ps").args(["-o", "command=", "-p", &process.to_string()]).output();
            ps.map(|output| output.stdout).unwrap_or_default()
        }
    };
    String::from_utf8_lossy(&line).contains(folder)
}

/// User and group of the first of these users that exists.
pub(super) fn user(names: &[&str]) -> Option<(u32, u32)> {
    let text = std::fs::read_to_string("/etc/passwd").ok()?;
    names.iter().find_map(|name| user_in(&text, name))
}

fn user_in(passwd: &str, name: &str) -> Option<(u32, u32)> {
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut numbers = line.split(':').skip(2);
    // Some systems write 2^32 - 2 as -2.
    let mut number = || numbers.next()?.parse::<i64>().ok().map(|id| id as u32);
    Some((number()?, number()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_stand_in_passwd() {
        let text =
            "root:x:0:0::/root:/bin/sh\nnobody:*:-2:-2::/:/bin/false\npostgres:x:101:104:a,b:/x:/bin/sh\n";
        assert_eq!(user_in(text, "postgres"), Some((101, 104)));
        assert_eq!(user_in(text, "nobody"), Some((u32::MAX - 1, u32::MAX - 1)));
        assert_eq!(user_in(text, "nobod"), None);
        assert_eq!(user_in("x:y:z\n", "x"), None);
    }

    #[test]
    fn a_process_is_told_by_its_folder() {
        let mut child = Command::new("sleep").arg("30.25").spawn().unwrap();
        // The system shows the new program's arguments a moment after it has started it.
        let seen = (0..1_000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            works_in(child.id(), Path::new("30.25"))
        });
        assert!(seen && !works_in(child.id(), Path::new("/nowhere")));
        signal(child.id(), "TERM");
        assert!(!child.wait().unwrap().success());
        assert!(!works_in(child.id(), Path::new("30.25")));
    }
}
