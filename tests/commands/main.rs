//! The commands of the README and the guide, as they stand there and in the order in which they stand there: each is typed into a shell, says something, and
//! nothing of it is an error. What goes on until it is stopped is stopped.
#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test fails by panicking, works in real time, and says what it types"
)]

#[path = "../binary/mod.rs"]
mod binary;
#[rustfmt::skip]
mod fragments;
#[allow(dead_code, clippy::allow_attributes, reason = "it is there for those who play as well")]
#[path = "../hosting/terminal.rs"]
mod terminal;

use std::cell::Cell;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use binary::{Folder, PATIENCE, Process, free_port, without_ours};
use terminal::Terminal;

/// What is not typed, and why.
const NOT_TYPED: [(&str, &str); 4] = [
    ("cargo test", "it is what runs this"),
    ("cargo build --release && alias", "what it builds is built, and known by that name"),
    ("cargo new orchard", "the package is examples/orchard.rs"),
    ("cd orchard", "it is there"),
];

/// Whatever goes on for so long after it has said something goes on until it is stopped.
const GOES_ON: Duration = Duration::from_secs(3);

/// "Play a while": what is asked for later of its time is there then.
const A_WHILE: Duration = Duration::from_secs(12);

/// What some are known to say, by what stands in their line.
const SAYS: [(&str, &str); 9] = [
    ("# it goes on where it was", "main goes on at "),
    ("orchard serves main", "orchard serves main on udp "),
    ("each operation as a line of JSON", r#""op":"set""#),
    ("cargo run -- dump", r#""apples""#),
    ("why tree.apples", "tree.apples"),
    ("-- rooms", "the server tells of no rooms"),
    ("-- handlers", "rules::combat::decide_fire"),
    ("config --check", "is in order"),
    ("orchard token", "a token for ann is in ann.token"),
];

/// What cargo, the games and pkill are in the shell: the games that were built already, at an address of the test's own. Nobody else's processes are killed.
const CARGO: &str = r#"#!/bin/bash
case "$1 $2 $3" in
"run --release --") shift 3; exec inferno "$@" ;;
"run -- "*) shift 2; exec orchard "$@" ;;
*) echo "error: nobody has said what cargo $* is to do here" >&2; exit 1 ;;
esac
"#;
const GAME: &str = r#"#!/bin/bash
words=()
for word in "$@"; do
  word=${word//203.0.113.7/127.0.0.1}
  word=${word//:5000/:$GAME_PORT}
  words+=("${word//:8080/:$ADMIN_PORT}")
done
case "$1 ${words[*]}" in
*127.0.0.1:*) ;;
bot\ *|watch\ *|dump\ *|rooms\ *|swarm\ *) words+=(--server "127.0.0.1:$GAME_PORT") ;;
esac
exec -a NAME BINARY "${words[@]}"
"#;
const PKILL: &str = "#!/bin/bash\nPATH=${PATH#*:} exec pkill -s 0 \"$@\"\n";

/// The commands of a page, block by block. What goes on in the next line is one command with it.
fn blocks(page: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
    let blocks = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
    blocks.map(|block| block.replace("\\\n", " ").lines().map(str::to_owned).filter(|line| !line.is_empty()).collect()).collect()
}

/// A command without what is said of it.
fn bare(line: &str) -> &str {
    line.split(" #").next().unwrap().trim_end()
}

/// A shell in which the games are known by their names.
struct Shell {
    folder: Folder,
    path: String,
    ports: [u16; 2],
    count: Cell<u32>,
}

impl Shell {
    /// `None` if the guide's game was not built. What is known as `orchard` there is that game, or the demo game where it wants bots and something to see.
    fn new(name: &str, is_demo: bool) -> Option<Self> {
        let inferno = PathBuf::from(env!("CARGO_BIN_EXE_inferno"));
        let orchard = inferno.with_file_name("examples").join("orchard");
        if !orchard.exists() {
            assert!(std::env::var_os("ROOMKEEPER_CI").is_none(), "{} is not there", orchard.display());
            println!("skipped: {} is not there; `cargo test` without a target builds it", orchard.display());
            return None;
        }
        let folder = Folder::new(name);
        std::fs::create_dir(folder.0.join("bin")).unwrap();
        std::os::unix::fs::symlink(Path::new(env!("CARGO_MANIFEST_DIR")).join("assets"), folder.0.join("assets")).unwrap();
        let game = |name: &str, binary: &Path| GAME.replace("NAME", name).replace("BINARY", binary.to_str().unwrap());
        let commands = [
            ("cargo", CARGO.to_owned()),
            ("inferno", game("inferno", &inferno)),
            ("orchard", game("orchard", if is_demo { &inferno } else { &orchard })),
            ("pkill", PKILL.to_owned()),
        ];
        for (name, text) in commands {
            let path = folder.write(&format!("bin/{name}"), &text);
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let path = format!("{}/bin:{}", folder.0.display(), std::env::var("PATH").unwrap());
        Some(Self { folder, path, ports: [free_port(), free_port()], count: Cell::new(0) })
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let [game, admin] = self.ports;
        let bind = format!("127.0.0.1:{game}");
        vec![
            ("PATH", self.path.clone()),
            ("GAME_PORT", game.to_string()),
            ("ADMIN_PORT", admin.to_string()),
            ("ROOMKEEPER_LISTEN_BIND", bind),
        ]
    }

    /// Types something. It is its own session, so that nothing outlives it and no `pkill` reaches further.
    fn types(&self, line: &str) -> Typed {
        // A file: `pkill -f` is not to find what is typed in the shell's own words.
        let script = self.folder.write(&format!("typed-{}.sh", self.count.replace(self.count.get() + 1)), line);
        let mut shell = Command::new("setsid");
        without_ours(&mut shell);
        shell.args(["--wait", "bash", &script]).current_dir(&self.folder.0).envs(self.environment());
        Typed { line: line.to_owned(), process: Process::start(&mut shell) }
    }
}

/// What was typed, and what it says.
struct Typed {
    line: String,
    process: Process,
}

impl Typed {
    /// Waits until it has ended, or has said something and goes on. True if it has ended.
    fn ends(&mut self) -> bool {
        let began = Instant::now();
        let mut said_at = None;
        loop {
            let is_running = self.process.is_running();
            if !is_running {
                // What it said last is read.
                std::thread::sleep(Duration::from_millis(100));
            }
            let said = self.process.hears("") > 0;
            let wrong: Vec<&String> = self.process.heard.iter().filter(|line| line.starts_with("error")).collect();
            assert!(wrong.is_empty(), "`{}` says: {wrong:#?}", self.line);
            if !is_running {
                assert!(said || self.line.contains('>'), "`{}` ends and has said nothing", self.line);
                return true;
            }
            let long = if self.line.contains("play a while") { A_WHILE } else { GOES_ON };
            if said && said_at.get_or_insert_with(Instant::now).elapsed() > long {
                return false;
            }
            assert!(began.elapsed() < PATIENCE, "`{}` says nothing", self.line);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What it said.
    fn said(&self) -> String {
        self.process.heard.join("\n")
    }
}

impl Drop for Typed {
    fn drop(&mut self) {
        // All of its session, which has its number: what it began in the background too.
        let _ = Command::new("pkill").args(["-KILL", "-s", &self.process.child.id().to_string()]).status();
    }
}

/// Types all commands of a page. What serves does so until the block has ended; where a block asks for a server and has none, one is there.
fn type_all(page: &str, name: &str, is_demo: bool) {
    let Some(mut shell) = Shell::new(name, is_demo) else { return };
    let mut typed = 0;
    for block in blocks(page) {
        shell.ports = [free_port(), free_port()];
        let serves = |line: &String| bare(line).split(' ').any(|word| word == "serve");
        let is_new_match = block.iter().any(|line| line.contains("pkill"));
        let mut serving = Vec::new();
        if !block.iter().any(serves) && block.iter().any(|line| ["play ", "watch", "dump", "swarm"].iter().any(|verb| line.contains(verb)))
        {
            serving.push(shell.types("orchard serve --data match"));
            serving.extend(is_demo.then(|| shell.types("sleep 1; orchard bot")));
            serving.iter_mut().for_each(|server| assert!(!server.ends(), "{}", server.said()));
        }
        if is_new_match {
            type_a_crash(&shell, &block);
            typed += block.len();
            continue;
        }
        for line in &block {
            if NOT_TYPED.iter().any(|(command, _)| line.starts_with(command)) {
                continue;
            }
            typed += 1;
            println!("{page}: {line}");
            if [" play", "--view", " view"].iter().any(|screen| bare(line).contains(screen)) {
                look(&shell, line);
                continue;
            }
            if serves(line) {
                // One after another: of a server that is to go on where another was.
                serving.clear();
            }
            let mut command = shell.types(line);
            let ended = command.ends();
            for (_, words) in SAYS.iter().filter(|(at, _)| line.contains(at)) {
                assert!(command.said().contains(words), "`{line}` does not say {words:?}: {}", command.said());
            }
            if ended {
                let code = command.process.child.wait().unwrap();
                assert!(code.success(), "`{line}` ends with {code}: {}", command.said());
            }
            if serves(line) {
                assert!(!ended, "`{line}` ends: {}", command.said());
                serving.push(command);
            }
        }
    }
    assert!(typed >= 3, "{typed} commands");
}

/// Types what has a screen, and looks at it.
fn look(shell: &Shell, line: &str) {
    let mut environment = shell.environment();
    environment.push(("FOLDER", shell.folder.0.display().to_string()));
    let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut terminal = Terminal::start("bash", &["-c", &format!("cd \"$FOLDER\"; exec {}", bare(line))], &environment, true);
    // A player's state, or what is seen of somebody.
    let screen = terminal.wait_for(line, |screen| screen.contains("tick") && screen.contains("keys"));
    assert!(!screen.contains("error"), "`{line}`:\n{screen}");
}

/// Types what crashes a server and goes back in time: at once, since it waits by itself.
fn type_a_crash(shell: &Shell, block: &[String]) {
    let match_folder = shell.folder.0.join("match");
    let _ = std::fs::remove_dir_all(match_folder);
    let mut all = shell.types(&block.join("\n"));
    all.process.until("main goes on at ");
    for wanted in ["door_armoury.door_state", "00:10.0"] {
        all.process.until(wanted);
    }
    let began = Instant::now();
    while all.process.is_running() && began.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(100));
    }
    let said = all.said();
    assert!(!said.contains("error"), "{said}");
}

#[test]
fn the_readme_s_commands_do_what_they_say() {
    type_all("README.md", "readme", true);
}

#[test]
fn the_guide_s_commands_do_what_they_say() {
    for (chapter, is_demo) in [("1-first-room", false), ("6-ledger-and-time", false), ("7-hosting", true), ("8-scaling", true)] {
        type_all(&format!("docs/guide/{chapter}.md"), chapter, is_demo);
    }
}

#[test]
fn the_readme_s_fragments_are_lines_of_programs_that_compile() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let [readme, programs] = ["README.md", "tests/commands/fragments.rs"].map(|path| std::fs::read_to_string(root.join(path)).unwrap());
    let fragments: Vec<&str> = readme.split("```rust,ignore\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let mut lines = programs.lines().map(str::trim);
    for wanted in fragments.iter().flat_map(|fragment| fragment.lines()).map(str::trim).filter(|line| !line.is_empty()) {
        assert!(lines.any(|line| line == wanted), "this line of the README is in no program that is compiled, or elsewhere: {wanted}");
    }
    assert!(fragments.len() >= 4, "{} fragments", fragments.len());
}

#[test]
fn the_game_that_is_built_is_the_guide_s() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = std::fs::read_to_string(root.join("docs/guide/1-first-room.md")).unwrap();
    let program = guide.split("```rust,no_run\n").nth(1).unwrap().split("```").next().unwrap();
    let built = std::fs::read_to_string(root.join("examples/orchard.rs")).unwrap();
    assert_eq!(built.split_once('\n').unwrap().1, program);
}
