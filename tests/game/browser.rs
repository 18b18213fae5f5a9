//! A headless Chromium, told what to do over the DevTools protocol, by a pipe: no port, and nothing to be installed beside it.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

/// How long it may take for anything.
const PATIENCE: Duration = Duration::from_secs(90);

pub struct Browser {
    process: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    number: u64,
    page: String,
    target: String,
    /// What the page complained about.
    pub complaints: Vec<String>,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The browser of this machine, if it has one.
pub fn program() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("ROOMKEEPER_CHROMIUM") {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    std::env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name))).find(|program| program.is_file())
}

impl Browser {
    pub fn start(program: &Path, folder: &Path) -> Self {
        let _ = std::fs::remove_dir_all(folder);
        // It reads orders from the third file, and answers on the fourth.
        let mut command = Command::new("sh");
        command.arg("-c").arg("exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1").arg(program);
        command.args([
            "--headless=new",
            "--remote-debugging-pipe",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ]);
        command.args(["--disable-background-networking", "--disable-component-update", "--hide-scrollbars"]);
        command.arg(format!("--user-data-dir={}", folder.display()));
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (to, mut answers) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        let (told, from) = channel();
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while answers.read_until(0, &mut message).is_ok_and(|length| length > 0) {
                message.pop();
                if told.send(serde_json::from_slice(&message).unwrap_or_default()).is_err() {
                    return;
                }
                message.clear();
            }
        });
        let (page, target, complaints) = Default::default();
        let mut browser = Self { process, to, from, number: 0, page, target, complaints };
        browser.target = browser.call("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].as_str().unwrap().to_owned();
        let attached = browser.call("Target.attachToTarget", json!({ "targetId": browser.target, "flatten": true }));
        browser.page = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            browser.call(domain, json!({}));
        }
        browser
    }

    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.number += 1;
        let mut order = json!({ "id": self.number, "method": method, "params": parameters });
        if !self.page.is_empty() {
            order["sessionId"] = self.page.as_str().into();
        }
        self.to.write_all(order.to_string().as_bytes()).and_then(|()| self.to.write_all(&[0])).unwrap();
        loop {
            let said = self.from.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("{method}: the browser does not answer: {error}"));
            if said["id"] == json!(self.number) {
                assert!(said["error"].is_null(), "{method}: {said}");
                return said["result"].clone();
            }
            self.note(&said);
        }
    }

    fn note(&mut self, event: &Value) {
        let parameters = &event["params"];
        match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => self.complaints.push(parameters["exceptionDetails"].to_string()),
            Some("Log.entryAdded") if parameters["entry"]["level"] == "error" => self.complaints.push(parameters["entry"].to_string()),
            _ => {}
        }
    }

    /// A screen of so many pixels, in the light or in the dark.
    pub fn screen(&mut self, width: u32, height: u32, is_phone: bool, is_dark: bool) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone });
        self.call("Emulation.setDeviceMetricsOverride", metrics);
        let scheme = if is_dark { "dark" } else { "light" };
        self.call("Emulation.setEmulatedMedia", json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] }));
    }

    pub fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url }));
    }

    /// What an expression of the page is worth.
    pub fn ask(&mut self, expression: &str) -> Value {
        let asked = self.call("Runtime.evaluate", json!({ "expression": expression, "awaitPromise": true, "returnByValue": true }));
        assert!(asked["exceptionDetails"].is_null(), "{expression}: {asked}");
        asked["result"]["value"].clone()
    }

    /// Waits until an expression of the page is true.
    pub fn until(&mut self, expression: &str) {
        for _ in 0..400 {
            if self.ask(expression) == json!(true) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let said = self.ask(
            "JSON.stringify([...['said', 'clock', 'end'].map((id) => document.getElementById(id).textContent), document.activeElement.id, \
             performance.now(), document.hidden, performance.getEntriesByType('resource').slice(-4).map((asked) => [asked.name, asked.startTime, asked.duration])])",
        );
        panic!("not in 40 s: {expression}; the page says {said}, and complains of {:?}", self.complaints);
    }

    /// Strikes a key, as the DOM calls it.
    pub fn strike(&mut self, key: &str) {
        let text = match key {
            "Enter" => Some("\r"),
            key if key.chars().count() == 1 => Some(key),
            _ => None,
        };
        let code = if key == "Enter" { 13 } else { 0 };
        let mut down = json!({ "type": "keyDown", "key": key, "windowsVirtualKeyCode": code });
        text.into_iter().for_each(|text| down["text"] = text.into());
        self.call("Input.dispatchKeyEvent", down);
        self.call("Input.dispatchKeyEvent", json!({ "type": "keyUp", "key": key, "windowsVirtualKeyCode": code }));
    }

    pub fn write(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// Clicks on what a selector finds, where it is.
    pub fn click(&mut self, selector: &str) {
        let selector = Value::from(selector);
        let place = self.ask(&format!(
            "(() => {{ const found = document.querySelector({selector}); found.scrollIntoView({{ block: 'center' }}); \
             const box = found.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; }})()"
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            let button = json!({ "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", button);
        }
    }

    pub fn picture(&mut self, path: &Path) {
        let taken = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        std::fs::write(path, from_base64(taken["data"].as_str().unwrap())).unwrap();
    }

    /// Closes the page.
    pub fn leave(&mut self) {
        let target = json!({ "targetId": self.target });
        self.page.clear();
        self.call("Target.closeTarget", target);
    }
}

fn from_base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0_u32, 0);
    for digit in text.bytes().take_while(|byte| *byte != b'=') {
        held = held << 6 | DIGITS.iter().position(|known| *known == digit).unwrap() as u32;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
        }
    }
    bytes
}
