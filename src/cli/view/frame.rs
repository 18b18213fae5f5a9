//! What stands where on the screen: the map, what is known of whom is followed, the story, a time bar, a page over it all.

use std::collections::VecDeque;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use super::canvas::{Camera, colour, paint};
use crate::client::picture::{Gauge, Picture, Tint};

/// The least that is drawn in.
const WIDTH_MIN: u16 = 40;
const HEIGHT_MIN: u16 = 12;

/// How broad the column beside the map is, and from which breadth on there is one.
const PANEL: u16 = 27;
const PANEL_FROM: u16 = 72;

/// All that stands on the screen.
pub(super) struct Frame<'a> {
    pub(super) picture: &'a Picture,
    pub(super) camera: Camera,
    /// The story so far, the newest line last.
    pub(super) story: &'a VecDeque<String>,
    /// What is known of the network, or of the record.
    pub(super) figures: Vec<(&'static str, String)>,
    /// The last line: the most important keys.
    pub(super) footer: String,
    pub(super) bar: Option<Bar>,
    pub(super) page: Option<Page>,
}

/// A bar of time.
pub(super) struct Bar {
    /// What is written before and behind it.
    pub(super) ends: [String; 2],
    /// How much of it is over, from 0 to 1.
    pub(super) share: f32,
    /// What is marked on it, from 0 to 1.
    pub(super) marks: Vec<f32>,
}

/// A page that stands over the map.
pub(super) struct Page {
    pub(super) title: String,
    pub(super) lines: Vec<String>,
    pub(super) tint: Tint,
}

/// Where what stands.
pub(super) struct Places {
    pub(super) map: Rect,
    panel: Option<Rect>,
    head: Option<Rect>,
    story: Rect,
    bar: Rect,
    footer: Rect,
}

/// Divides the screen. `None` if it is too small.
pub(super) fn places(area: Rect, has_bar: bool) -> Option<Places> {
    if area.width < WIDTH_MIN || area.height < HEIGHT_MIN {
        return None;
    }
    let (story, bar) = (if area.height < 30 { 3 } else { 5 }, u16::from(has_bar));
    let has_panel = area.width >= PANEL_FROM;
    let head = u16::from(!has_panel);
    let map = Rect {
        x: area.x,
        y: area.y + head,
        width: area.width - if has_panel { PANEL } else { 0 },
        height: area.height - head - story - bar - 1,
    };
    let row = |y: u16, height: u16| Rect { y, height, ..area };
    Some(Places {
        map,
        panel: has_panel.then(|| Rect { x: map.right() + 1, width: PANEL - 1, ..map }),
        head: (!has_panel).then(|| row(area.y, 1)),
        story: row(map.bottom(), story),
        bar: row(map.bottom() + story, bar),
        footer: row(map.bottom() + story + bar, 1),
    })
}

impl Frame<'_> {
    pub(super) fn paint(&self, area: Rect, buffer: &mut Buffer) {
        let Some(places) = places(area, self.bar.is_some()) else {
            return too_small(area, buffer);
        };
        paint(self.picture, &self.camera, places.map, buffer);
        if let Some(panel) = places.panel {
            self.panel(panel, buffer);
        }
        if let Some(head) = places.head {
            let gauges = self.picture.gauges.iter().map(|gauge| format!("{} {}/{}", gauge.name, gauge.value, gauge.max));
            let facts = self.picture.facts.iter().map(|(name, what)| format!("{name} {what}"));
            let line = std::iter::once(self.picture.title.clone()).chain(gauges).chain(facts).collect::<Vec<_>>().join("  ");
            write(buffer, head, 0, &line, Style::new().add_modifier(Modifier::BOLD));
        }
        self.story(places.story, buffer);
        if let Some(bar) = &self.bar {
            bar.paint(places.bar, buffer);
        }
        write(buffer, places.footer, 0, &self.footer, Style::new().fg(Color::Black).bg(Color::Gray));
        if let Some(page) = &self.page {
            page.paint(Rect { height: places.map.bottom() - area.y, ..area }, buffer);
        }
    }

    fn panel(&self, panel: Rect, buffer: &mut Buffer) {
        let (bold, dim) = (Style::new().add_modifier(Modifier::BOLD), Style::new().fg(Color::DarkGray));
        let mut row = 0;
        write(buffer, panel, row, &self.picture.title, bold);
        for gauge in &self.picture.gauges {
            row += 1;
            paint_gauge(gauge, panel, row, buffer);
        }
        let pair = |buffer: &mut Buffer, row: u16, name: &str, what: &str| {
            write(buffer, panel, row, &format!("{name:<11} {what}"), Style::new());
            write(buffer, panel, row, &format!("{name:<11}"), dim);
        };
        for (name, what) in &self.picture.facts {
            row += 1;
            pair(buffer, row, name, what);
        }
        row += 1;
        for (name, what) in &self.figures {
            row += 1;
            pair(buffer, row, name, what);
        }
    }

    fn story(&self, place: Rect, buffer: &mut Buffer) {
        let lines = self.story.len().min(usize::from(place.height));
        let newest = self.story.iter().skip(self.story.len() - lines);
        for (row, line) in (0..).zip(newest) {
            let style = if usize::from(row) + 1 == lines { Style::new() } else { Style::new().fg(Color::DarkGray) };
            write(buffer, place, row, line, style);
        }
    }
}

/// Writes a line into a row of a place; what does not fit is left out.
fn write(buffer: &mut Buffer, place: Rect, row: u16, text: &str, style: Style) {
    let place = place.intersection(buffer.area);
    if row < place.height {
        buffer.set_stringn(place.x, place.y + row, text, usize::from(place.width), style);
    }
}

fn paint_gauge(gauge: &Gauge, place: Rect, row: u16, buffer: &mut Buffer) {
    const BAR: i64 = 10;
    let max = gauge.max.max(1);
    // The last of it is seen until there is none.
    let full = gauge.value.clamp(0, max).saturating_mul(BAR).saturating_add(max - 1) / max;
    let bar: String = (0..BAR as usize).map(|nth| if nth < full as usize { '█' } else { '░' }).collect();
    write(buffer, place, row, &format!("{:<11} {bar} {}", gauge.name, gauge.value), Style::new().fg(colour(gauge.tint)));
}

fn too_small(area: Rect, buffer: &mut Buffer) {
    let lines = [
        format!("This terminal is {} by {}.", area.width, area.height),
        format!("{WIDTH_MIN} by {HEIGHT_MIN} are needed."),
        "Make it larger; q leaves.".to_owned(),
    ];
    for (row, line) in (0..).zip(&lines) {
        write(buffer, area, row, line, Style::new());
    }
}

impl Bar {
    fn paint(&self, place: Rect, buffer: &mut Buffer) {
        let [before, behind] = &self.ends;
        let width = usize::from(place.width).saturating_sub(before.chars().count() + behind.chars().count() + 2).max(1);
        let at = |share: f32| ((share.clamp(0.0, 1.0) * (width - 1) as f32).round() as usize).min(width - 1);
        let mut bar = vec!['─'; width];
        bar.iter_mut().take(at(self.share)).for_each(|cell| *cell = '━');
        let mut put = |share: f32, symbol: char| bar.get_mut(at(share)).into_iter().for_each(|cell| *cell = symbol);
        self.marks.iter().for_each(|mark| put(*mark, '┼'));
        put(self.share, '●');
        let bar: String = bar.into_iter().collect();
        write(buffer, place, 0, &format!("{before} {bar} {behind}"), Style::new());
    }
}

impl Page {
    fn paint(&self, place: Rect, buffer: &mut Buffer) {
        let broadest = self.lines.iter().chain([&self.title]).map(|line| line.chars().count()).max().unwrap_or(0);
        let width = u16::try_from(broadest).unwrap_or(u16::MAX).saturating_add(4).min(place.width);
        let height = u16::try_from(self.lines.len()).unwrap_or(u16::MAX).saturating_add(4).min(place.height);
        let (x, y) = (place.x + (place.width - width) / 2, place.y + (place.height - height) / 2);
        let page = Rect { x, y, width, height };
        let style = Style::new().fg(colour(self.tint));
        for row in 0..height {
            let edge = |left: char, middle: char, right: char| {
                let middle: String = std::iter::repeat_n(middle, usize::from(width.saturating_sub(2))).collect();
                format!("{left}{middle}{right}")
            };
            let line = match row {
                0 => edge('┌', '─', '┐'),
                row if row + 1 == height => edge('└', '─', '┘'),
                _ => edge('│', ' ', '│'),
            };
            write(buffer, page, row, &line, style.bg(Color::Reset));
        }
        let inside = Rect { x: x + 2, y: y + 1, width: width.saturating_sub(4), height: height.saturating_sub(2) };
        write(buffer, inside, 0, &self.title, style.add_modifier(Modifier::BOLD));
        for (row, line) in (2..).zip(&self.lines) {
            write(buffer, inside, row, line, Style::new());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::picture::Shape;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn shown(width: u16, height: u16, page: Option<Page>) -> String {
        let picture = Picture {
            shapes: vec![Shape::block([-3.0, 0.0], [0.5, 1.0], Tint::Grey), Shape::mark([0.0, 0.0], "@", Tint::Green)],
            title: "ann".to_owned(),
            gauges: vec![Gauge { name: "health".to_owned(), value: 41, max: 100, tint: Tint::Red }],
            facts: vec![("weapon".to_owned(), "pistol".to_owned())],
            ..Picture::default()
        };
        let story: VecDeque<String> = ["one", "two", "three", "four"].map(str::to_owned).into();
        let bar = Some(Bar { ends: ["00:05".to_owned(), "00:10".to_owned()], share: 0.5, marks: vec![1.0] });
        let (camera, figures, footer) = (Camera::new(2), vec![("round trip", "12 ms".to_owned())], "q leaves".to_owned());
        let frame = Frame { picture: &picture, camera, story: &story, figures, footer, bar, page };
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|target| frame.paint(target.area(), target.buffer_mut())).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn map_panel_story_bar_and_keys_have_their_places() {
        let text = shown(80, 16, None);
        let lines: Vec<&str> = text.lines().map(|line| line.trim_matches('"')).collect();
        assert_eq!(lines.len(), 16);
        assert!(lines[0].contains("ann") && lines[1].contains("health      █████░░░░░ 41"), "{text}");
        assert!(lines[2].contains("weapon      pistol") && lines[4].contains("round trip  12 ms"), "{text}");
        // The map is 53 columns and 11 rows: its middle is in column 26, and between the rows 5 and 6.
        let columns: Vec<char> = lines[5].chars().collect();
        assert_eq!((columns[19], columns[20], columns[21], columns[26]), ('█', '█', ' ', '@'), "{text}");
        assert_eq!(lines[11..14].iter().map(|line| line.trim_end()).collect::<Vec<_>>(), ["two", "three", "four"]);
        assert!(lines[14].starts_with("00:05 ━━━") && lines[14].trim_end().ends_with("───┼ 00:10"), "{text}");
        assert!(lines[15].starts_with("q leaves"));
    }

    #[test]
    fn a_narrow_terminal_has_a_line_for_a_panel_and_a_small_one_says_what_it_needs() {
        assert!(shown(50, 14, None).lines().next().unwrap().contains("ann  health 41/100  weapon pistol"));
        let text = shown(30, 5, None);
        assert!(text.contains("This terminal is 30 by 5.") && text.contains("40 by 12 are needed."), "{text}");
        // Nothing is too small.
        for (width, height) in [(1, 1), (40, 12), (200, 12), (40, 90)] {
            let page = Page { title: "a title that is longer than that".to_owned(), lines: vec![String::new(); 50], tint: Tint::Red };
            shown(width, height, Some(page));
        }
    }

    #[test]
    fn a_page_stands_in_the_middle_of_the_map() {
        let page = Page { title: "ann is dead".to_owned(), lines: vec!["r plays again".to_owned()], tint: Tint::Red };
        let text = shown(80, 20, Some(page));
        assert!(text.contains("│ ann is dead   │") && text.contains("│ r plays again │"), "{text}");
    }
}
