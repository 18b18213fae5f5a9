//! A picture in the cells of a terminal. Each cell is two pixels, one above the other.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use crate::client::picture::{Form, Picture, Shape, Spot, Tint};

/// How many pixels a unit of the game can be broad.
const ZOOMS: std::ops::RangeInclusive<u16> = 1..=6;

/// How far a key moves the camera, in pixels.
const PAN_PIXELS: f32 = 4.0;

/// What part of the map is seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Camera {
    /// What is in the middle.
    pub(super) centre: Spot,
    /// How many pixels a unit is broad: as many columns, and half as many rows.
    pub(super) zoom: u16,
    /// How far that is from whom one follows.
    pan: Spot,
}

impl Camera {
    pub(super) fn new(zoom: u16) -> Self {
        Self { centre: [0.0; 2], zoom, pan: [0.0; 2] }
    }

    pub(super) fn zoom_by(&mut self, by: i16) {
        self.zoom = self.zoom.saturating_add_signed(by).clamp(*ZOOMS.start(), *ZOOMS.end());
    }

    /// Moves by so many keys to the right and up.
    pub(super) fn pan_by(&mut self, right: f32, up: f32) {
        let step = PAN_PIXELS / f32::from(self.zoom);
        self.pan = [self.pan[0] + right * step, self.pan[1] + up * step];
    }

    /// Goes back to whom one follows.
    pub(super) fn come_back(&mut self) {
        self.pan = [0.0; 2];
    }

    /// Goes along with whom one follows; stays where it is with nobody.
    pub(super) fn follow(&mut self, focus: Option<Spot>) {
        let [x, y] = focus.unwrap_or([self.centre[0] - self.pan[0], self.centre[1] - self.pan[1]]);
        self.centre = [x + self.pan[0], y + self.pan[1]];
    }

    /// The place on the map of a cell's middle.
    pub(super) fn spot(&self, area: Rect, column: u16, row: u16) -> Spot {
        let place = Place::new(self, area);
        let x = f32::from(column.saturating_sub(area.x)) + 0.5;
        let y = f32::from(row.saturating_sub(area.y)) * 2.0 + 1.0;
        [(x - place.off[0]) / place.zoom, (place.off[1] - y) / place.zoom]
    }
}

/// From places on the map to pixels.
struct Place {
    zoom: f32,
    off: Spot,
}

impl Place {
    fn new(camera: &Camera, area: Rect) -> Self {
        let zoom = f32::from(camera.zoom.clamp(*ZOOMS.start(), *ZOOMS.end()));
        // In whole pixels, or walls would change their breadth while the camera moves.
        let [x, y] = camera.centre.map(|axis| (axis * zoom).round());
        Self { zoom, off: [f32::from(area.width / 2) - x, f32::from(area.height) + y] }
    }

    /// In pixels from the upper left corner, the second axis down.
    fn pixel(&self, spot: Spot) -> Spot {
        [spot[0] * self.zoom + self.off[0], self.off[1] - spot[1] * self.zoom]
    }
}

/// The pixels from one edge to the other: at least one, at most those that are there.
fn span(from: f32, to: f32, count: u16) -> std::ops::Range<u16> {
    let (from, to) = (from.round(), to.round().max(from.round() + 1.0));
    // Saturating casts: what is far outside is at the edge, and empty.
    (from.max(0.0) as u16).min(count)..(to.max(0.0) as u16).min(count)
}

struct Canvas {
    width: u16,
    height: u16,
    pixels: Vec<Option<Tint>>,
    haze: Vec<Option<Tint>>,
}

impl Canvas {
    fn new(area: Rect) -> Self {
        let (width, height) = (area.width, area.height.saturating_mul(2));
        let size = usize::from(width) * usize::from(height);
        Self { width, height, pixels: vec![None; size], haze: vec![None; size] }
    }

    fn at(&self, column: u16, row: u16) -> usize {
        usize::from(row) * usize::from(self.width) + usize::from(column)
    }

    fn put(&mut self, column: u16, row: u16, tint: Tint, is_haze: bool) {
        let at = self.at(column, row);
        let layer = if is_haze { &mut self.haze } else { &mut self.pixels };
        if let Some(pixel) = layer.get_mut(at) {
            *pixel = Some(tint);
        }
    }

    fn draw(&mut self, place: &Place, shape: &Shape) {
        let middle = place.pixel(shape.at);
        if !middle.iter().all(|axis| axis.is_finite()) {
            return;
        }
        match &shape.form {
            Form::Block { half } | Form::Haze { half } => {
                let [x, y] = half.map(|axis| axis * place.zoom);
                for row in span(middle[1] - y, middle[1] + y, self.height) {
                    for column in span(middle[0] - x, middle[0] + x, self.width) {
                        self.put(column, row, shape.tint, matches!(shape.form, Form::Haze { .. }));
                    }
                }
            }
            Form::Disc { radius } => {
                let radius = (radius * place.zoom).max(0.5);
                for row in span(middle[1] - radius, middle[1] + radius, self.height) {
                    for column in span(middle[0] - radius, middle[0] + radius, self.width) {
                        let (x, y) = (f32::from(column) + 0.5 - middle[0], f32::from(row) + 0.5 - middle[1]);
                        if x * x + y * y <= radius * radius + 0.25 {
                            self.put(column, row, shape.tint, false);
                        }
                    }
                }
            }
            Form::Mark(_) => {}
        }
    }

    fn pixel(&self, column: u16, row: u16) -> Option<Tint> {
        self.pixels.get(self.at(column, row)).copied().flatten()
    }

    /// A cell: what stands in it, in front of what.
    fn cell(&self, column: u16, row: u16) -> (char, Style) {
        let style = Style::new();
        match (self.pixel(column, row * 2), self.pixel(column, row * 2 + 1)) {
            (Some(upper), Some(lower)) if upper == lower => ('█', style.fg(colour(upper))),
            (Some(upper), Some(lower)) => ('▀', style.fg(colour(upper)).bg(colour(lower))),
            (Some(upper), None) => ('▀', style.fg(colour(upper))),
            (None, Some(lower)) => ('▄', style.fg(colour(lower))),
            (None, None) => {
                let haze = [row * 2, row * 2 + 1].into_iter().find_map(|row| self.haze.get(self.at(column, row)).copied().flatten());
                haze.map_or((' ', style), |tint| ('░', style.fg(colour(tint))))
            }
        }
    }
}

/// Draws a picture, as a camera sees it.
pub(super) fn paint(picture: &Picture, camera: &Camera, area: Rect, buffer: &mut Buffer) {
    let area = area.intersection(buffer.area);
    let (mut canvas, place) = (Canvas::new(area), Place::new(camera, area));
    picture.shapes.iter().for_each(|shape| canvas.draw(&place, shape));
    for row in 0..area.height {
        for column in 0..area.width {
            let (symbol, style) = canvas.cell(column, row);
            if let Some(cell) = buffer.cell_mut((area.x + column, area.y + row)) {
                cell.set_char(symbol).set_style(style);
            }
        }
    }
    for shape in &picture.shapes {
        if let Form::Mark(text) = &shape.form {
            mark(&place, shape, text, area, buffer);
        }
    }
}

/// Writes a mark. What of it is outside is left out.
fn mark(place: &Place, shape: &Shape, text: &str, area: Rect, buffer: &mut Buffer) {
    let [x, y] = place.pixel(shape.at);
    let row = (y / 2.0).floor();
    let first = x.floor() - ((text.chars().count() as f32 - 1.0) / 2.0).floor();
    for (nth, symbol) in text.chars().enumerate().filter(|(_, symbol)| !symbol.is_control()) {
        let column = first + nth as f32;
        let inside = (0.0..f32::from(area.width)).contains(&column) && (0.0..f32::from(area.height)).contains(&row);
        if inside && let Some(cell) = buffer.cell_mut((area.x + column as u16, area.y + row as u16)) {
            // On what is filled the mark is cut out.
            let filled = matches!(cell.symbol(), "█" | "▀" | "▄");
            let style = Style::new().add_modifier(Modifier::BOLD);
            let style = if filled { style.bg(cell.fg).fg(Color::Black) } else { style.fg(colour(shape.tint)).bg(Color::Reset) };
            cell.set_char(symbol).set_style(style);
        }
    }
}

/// A colour as the terminal knows it.
pub(super) fn colour(tint: Tint) -> Color {
    match tint {
        Tint::White => Color::White,
        Tint::Grey => Color::Gray,
        Tint::Dark => Color::DarkGray,
        Tint::Red => Color::LightRed,
        Tint::Green => Color::LightGreen,
        Tint::Blue => Color::LightBlue,
        Tint::Yellow => Color::LightYellow,
        Tint::Magenta => Color::LightMagenta,
        Tint::Cyan => Color::LightCyan,
        Tint::Brown => Color::Yellow,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn painted(shapes: Vec<Shape>, centre: Spot) -> Vec<String> {
        let area = Rect::new(0, 0, 12, 4);
        let mut buffer = Buffer::empty(area);
        paint(&Picture { shapes, ..Picture::default() }, &Camera { centre, ..Camera::new(2) }, area, &mut buffer);
        let row = |row| (0..12).map(|column| buffer[(column, row)].symbol()).collect::<String>();
        (0..4).map(row).collect()
    }

    #[test]
    fn a_wall_a_door_and_a_player_stand_where_they_are_and_up_is_up() {
        let shapes = vec![
            Shape::block([-2.5, 0.0], [0.5, 2.0], Tint::Grey),
            Shape::haze([0.0, 1.75], [1.0, 0.25], Tint::Brown),
            Shape::disc([2.25, -1.25], 0.25, Tint::Red),
            Shape::mark([0.0, 0.0], "@", Tint::Green),
        ];
        assert_eq!(painted(shapes, [0.0, 0.0]), ["██  ░░░░    ", "██          ", "██    @     ", "██        ▀ "]);
    }

    #[test]
    fn what_is_outside_what_has_no_place_and_what_is_endless_is_cut_off() {
        let shapes = vec![
            Shape::block([1e30, 0.0], [1.0, 1.0], Tint::Grey),
            Shape::block([f32::NAN, 0.0], [1.0, 1.0], Tint::Grey),
            Shape::disc([-1e9, 3.0], 4.0, Tint::Red),
            Shape::block([0.0, -1.5], [f32::INFINITY, 0.5], Tint::Grey),
            Shape::mark([-3.5, 0.0], "<-->", Tint::Green),
            Shape::mark([0.0, 80.0], "far", Tint::Green),
        ];
        assert_eq!(painted(shapes, [0.0, 0.0]), ["            ", "            ", "->          ", "████████████"]);
    }

    #[test]
    fn the_spot_under_a_cell_is_the_one_that_is_drawn_there() {
        let (area, camera) = (Rect::new(3, 2, 12, 4), Camera { centre: [10.3, -4.1], ..Camera::new(2) });
        let mut buffer = Buffer::empty(Rect::new(0, 0, 20, 10));
        for (column, row) in [(3, 2), (9, 4), (14, 5)] {
            let shapes = vec![Shape::mark(camera.spot(area, column, row), "x", Tint::Red)];
            paint(&Picture { shapes, ..Picture::default() }, &camera, area, &mut buffer);
            assert_eq!(buffer[(column, row)].symbol(), "x");
        }
    }
}
