//! Charts as inline SVG.
//!
//! Invariants: ink is the text's colour, so that a chart can be read on a light and on a dark page
//! and on paper; letters are as large as the page's, so that a chart with letters is drawn twice, for a
//! wide and for a narrow screen; every chart has a title and a sentence for who does not see it;
//! whatever is drawn stands in a table beside it.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::words::{NONE, count, duration};
use crate::base::error::{Error, Result};
use crate::base::printable::printable;

/// Stands for the colour of the page's text.
const INK: RGBColor = RGBColor(1, 2, 3);
const INK_TEXT: &str = "#010203";
/// Told apart by most eyes, on light and on dark.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0x2f, 0x7e, 0xd8),
    RGBColor(0xd9, 0x7b, 0x06),
    RGBColor(0x1f, 0x9d, 0x72),
    RGBColor(0xc2, 0x4d, 0x9a),
    RGBColor(0x8a, 0x6f, 0xdf),
    RGBColor(0x9a, 0x86, 0x1c),
    RGBColor(0x35, 0xa3, 0xb5),
    RGBColor(0xc9, 0x4f, 0x43),
];
/// Rows of a chart; of more, the first are drawn.
const ROWS_MAX: usize = 40;
/// Size of letters in pixels.
const LETTER: i32 = 14;
/// Plotters writes sizes divided by this into an SVG.
const PLOTTERS_SIZE: f64 = 1.24;
/// Width of a letter in pixels, a generous mean: fonts differ.
const LETTER_WIDTH: i32 = 9;
const MARGIN: i32 = 6;
/// Width and height of a sparkline in pixels.
const SPARK: (i32, i32) = (280, 48);
const SPARK_MARGIN: i32 = 5;

/// Where labels and values stand.
#[derive(Debug, Clone, Copy)]
struct Layout {
    /// Which screens show it, as the style says.
    class: &'static str,
    width: i32,
    /// Width of the labels on the left; none, and they stand above.
    labels: Option<i32>,
}

/// Least and greatest width of the labels on the left, in pixels; between them it is that of the longest.
const LABELS_WIDTH: (i32, i32) = (120, 330);

const LAYOUTS: [Layout; 2] = [
    Layout {
        class: "chart wide",
        width: 720,
        labels: Some(LABELS_WIDTH.0),
    },
    Layout {
        class: "chart narrow",
        width: 340,
        labels: None,
    },
];

impl Layout {
    /// With as much room on the left as `labels` need.
    fn fitted<'a>(self, labels: impl Iterator<Item = &'a str>) -> Self {
        let longest = labels.map(width_of).max().unwrap_or(0);
        let (least, most) = LABELS_WIDTH;
        let fitted = longest.saturating_add(2 * MARGIN).clamp(least, most);
        Self {
            labels: self.labels.map(|_| fitted),
            ..self
        }
    }

    const fn row_height(self) -> i32 {
        match self.labels {
            Some(_) => 26,
            None => 46,
        }
    }

    /// Height of `rows` rows, and of `lines` lines of text below them.
    fn height(self, rows: usize, lines: i32) -> i32 {
        let rows = i32::try_from(rows).unwrap_or(i32::MAX);
        rows.saturating_mul(self.row_height())
            .saturating_add(lines * 20 + 2 * MARGIN)
    }

    /// The left edge of what is drawn.
    fn left(self) -> i32 {
        self.labels.unwrap_or(0) + MARGIN
    }

    /// The middle of the bar in row `at`.
    fn middle(self, at: usize) -> i32 {
        let at = i32::try_from(at).unwrap_or(i32::MAX);
        let above = if self.labels.is_some() { 13 } else { 31 };
        at.saturating_mul(self.row_height())
            .saturating_add(MARGIN + above)
    }

    /// Where the label of row `at` is, and as much of it as there is room for.
    fn label(self, at: usize, label: &str) -> Text<'static, (i32, i32), String> {
        let (up, width) = match self.labels {
            Some(width) => (0, width),
            None => (20, self.width),
        };
        let letters = usize::try_from(width / LETTER_WIDTH).unwrap_or(0);
        text(MARGIN, self.middle(at) - up, shorten(label, letters))
    }
}

/// The colour of the series `at`, as a page writes it.
pub fn colour(at: usize) -> String {
    let RGBColor(red, green, blue) = pick(at);
    format!("#{red:02x}{green:02x}{blue:02x}")
}

fn pick(at: usize) -> RGBColor {
    COLOURS.get(at % COLOURS.len()).copied().unwrap_or(INK)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Painted = std::result::Result<(), Box<dyn std::error::Error>>;

/// A chart `size` pixels wide and high, with a sentence that says what is on it.
fn draw(
    title: &str,
    told: &str,
    class: &str,
    size: (i32, i32),
    paint: impl FnOnce(&Area<'_>) -> Painted,
) -> Result<String> {
    let pixels = |length: i32| u32::try_from(length).unwrap_or(1).max(1);
    let size = (pixels(size.0), pixels(size.1));
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        paint(&area)
            .and_then(|()| area.present().map_err(Into::into))
            .map_err(|err| Error::failed(format!("drawing the chart '{title}'"), err))?;
    }
    let label = format!("{title}: {told}");
    let open = format!(
        "<svg role=\"img\" aria-label=\"{}\" class=\"{class}\"",
        escape(&printable(&label))
    );
    Ok(svg
        .replacen("<svg", &open, 1)
        .replace(INK_TEXT, "currentColor"))
}

/// A line without axes, of one value after the other; none is a gap.
pub fn sparkline(title: &str, told: &str, values: &[Option<f64>]) -> Result<String> {
    let known = || values.iter().flatten().copied();
    let least = known().fold(f64::INFINITY, f64::min);
    let most = known().fold(f64::NEG_INFINITY, f64::max);
    let room = (
        f64::from(SPARK.0 - 2 * SPARK_MARGIN),
        f64::from(SPARK.1 - 2 * SPARK_MARGIN),
    );
    let steps = u32::try_from(values.len().saturating_sub(1)).unwrap_or(u32::MAX);
    let steps = f64::from(steps.max(1));
    let place = |at: usize, value: f64| {
        let across = f64::from(u32::try_from(at).unwrap_or(0)) / steps;
        let up = match most > least {
            true => (value - least) / (most - least),
            false => 0.5,
        };
        (
            SPARK_MARGIN + pixels(across * room.0),
            SPARK.1 - SPARK_MARGIN - pixels(up * room.1),
        )
    };
    let values = values.iter().enumerate();
    let placed: Vec<Option<(i32, i32)>> = values
        .map(|(at, value)| value.map(|value| place(at, value)))
        .collect();
    draw(title, told, "spark", SPARK, |area| {
        area.draw(&PathElement::new(
            [(0, SPARK.1 - 1), (SPARK.0, SPARK.1 - 1)],
            INK.mix(0.25),
        ))?;
        let dot = |at: (i32, i32), radius: i32| Circle::new(at, radius, pick(0).filled());
        for line in placed.split(Option::is_none) {
            let line: Vec<(i32, i32)> = line.iter().flatten().copied().collect();
            // A run between two gaps is a dot.
            if let [alone] = line.as_slice() {
                area.draw(&dot(*alone, 2))?;
            }
            area.draw(&PathElement::new(line, pick(0).stroke_width(2)))?;
        }
        if let Some(Some(last)) = placed.last() {
            area.draw(&dot(*last, 4))?;
        }
        Ok(())
    })
}

/// The same chart for wide and for narrow screens.
fn draw_twice<'a>(
    title: &str,
    told: &str,
    labels: impl Iterator<Item = &'a str> + Clone,
    height: impl Fn(Layout) -> i32,
    paint: impl Fn(Layout, &Area<'_>) -> Painted,
) -> Result<String> {
    let mut all = String::new();
    for layout in LAYOUTS {
        let layout = layout.fitted(labels.clone());
        let size = (layout.width, height(layout));
        all += &draw(title, told, layout.class, size, |area| paint(layout, area))?;
    }
    Ok(all)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('"', "&quot;")
        .replace('<', "&lt;")
}

/// Text whose middle is `middle` pixels below the top.
fn text(left: i32, middle: i32, text: String) -> Text<'static, (i32, i32), String> {
    let font = ("sans-serif", f64::from(LETTER) * PLOTTERS_SIZE).into_font();
    Text::new(text, (left, middle - LETTER * 2 / 5), font.color(&INK))
}

#[expect(clippy::cast_possible_truncation, reason = "pixels of a chart")]
fn pixels(length: f64) -> i32 {
    length.round() as i32
}

fn width_of(text: &str) -> i32 {
    i32::try_from(text.chars().count())
        .unwrap_or(i32::MAX)
        .saturating_mul(LETTER_WIDTH)
}

/// As much of `label` as `letters` letters can show; names differ at their ends more than in the middle.
fn shorten(label: &str, letters: usize) -> String {
    let label = printable(label);
    let count = label.chars().count();
    if count <= letters {
        return label.into_owned();
    }
    let (start, end) = (letters / 2, letters.saturating_sub(letters / 2 + 1));
    let start: String = label.chars().take(start).collect();
    let end: String = label.chars().skip(count - end).collect();
    format!("{start}…{end}")
}

/// The rows that are drawn, and what is said of the others.
fn drawn<T>(rows: &[T]) -> (&[T], Option<String>) {
    match rows.get(..ROWS_MAX) {
        Some(first) if rows.len() > ROWS_MAX => {
            let of = count(rows.len() as u64);
            (first, Some(format!("the first {ROWS_MAX} of {of}")))
        }
        _ => (rows, None),
    }
}

/// Bars from left to right, each with its label, its value in words, and the series of its colour.
#[derive(Debug, Clone)]
pub struct Bar {
    /// Label of the bar.
    pub label: String,
    /// Value that its length shows.
    pub value: f64,
    /// The value in words.
    pub words: String,
    /// Which series it belongs to.
    pub series: usize,
}

impl Bar {
    /// A bar as long as a count.
    #[expect(clippy::cast_precision_loss, reason = "the length of a bar")]
    pub fn of_count(label: impl Into<String>, number: u64, series: usize) -> Self {
        Self {
            label: label.into(),
            value: number as f64,
            words: count(number),
            series,
        }
    }

    /// A bar as long as a time.
    pub fn of_seconds(label: impl Into<String>, seconds: f64, series: usize) -> Self {
        Self {
            label: label.into(),
            value: seconds,
            words: duration(seconds),
            series,
        }
    }
}

/// A chart of bars.
pub fn bars(title: &str, bars: &[Bar]) -> Result<String> {
    let (bars, note) = drawn(bars);
    let most = bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
    let words = bars.iter().map(|bar| width_of(&bar.words)).max();
    let words = words.unwrap_or(0);
    let told = bars.iter();
    let told: Vec<String> = told
        .map(|bar| format!("{} {}", bar.label, bar.words))
        .chain(note.clone())
        .collect();
    let height = |layout: Layout| layout.height(bars.len(), i32::from(note.is_some()));
    let labels = bars.iter().map(|bar| bar.label.as_str());
    draw_twice(title, &told.join(", "), labels, height, |layout, area| {
        let left = layout.left();
        // Room for the words behind the longest bar.
        let room = f64::from((layout.width - left - words - 3 * MARGIN).max(20));
        for (at, bar) in bars.iter().enumerate() {
            let middle = layout.middle(at);
            let share = if most > 0.0 { bar.value / most } else { 0.0 };
            let right = left + pixels(share.clamp(0.0, 1.0) * room).max(1);
            let corners = [(left, middle - 9), (right, middle + 9)];
            area.draw(&Rectangle::new(corners, pick(bar.series).filled()))?;
            area.draw(&text(right + MARGIN, middle, bar.words.clone()))?;
            area.draw(&layout.label(at, &bar.label))?;
        }
        below(layout, area, bars.len(), note.as_deref())
    })
}

/// The line below the rows.
fn below(layout: Layout, area: &Area<'_>, rows: usize, line: Option<&str>) -> Painted {
    if let Some(line) = line {
        let middle = layout.height(rows, 1) - MARGIN - LETTER / 2;
        area.draw(&text(layout.left(), middle, line.to_owned()))?;
    }
    Ok(())
}

/// Points in a plane, each in the colour of its series; those without one in the text's colour.
pub fn scatter(title: &str, told: &str, points: &[(f64, f64, Option<usize>)]) -> Result<String> {
    let bounds = |of: fn(&(f64, f64, Option<usize>)) -> f64| {
        let least = points.iter().map(of).fold(f64::INFINITY, f64::min);
        let most = points.iter().map(of).fold(f64::NEG_INFINITY, f64::max);
        let room = ((most - least) * 0.05).max(1e-9);
        (least - room)..(most + room)
    };
    let (across, up) = (bounds(|at| at.0), bounds(|at| at.1));
    // Without letters, it is as good on any screen.
    draw(title, told, "chart", (720, 480), |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .build_cartesian_2d(across, up)?;
        chart.plotting_area().draw(&Rectangle::new(
            [
                (chart.x_range().start, chart.y_range().start),
                (chart.x_range().end, chart.y_range().end),
            ],
            INK.mix(0.25),
        ))?;
        chart.draw_series(points.iter().map(|(x, y, series)| {
            let colour = series.map_or(INK, pick);
            Circle::new((*x, *y), 4, colour.mix(0.75).filled())
        }))?;
        Ok(())
    })
}

/// For each label the least, the quartiles and the greatest of some values, as a box with whiskers.
pub fn boxes(title: &str, rows: &[(String, [f64; 5])]) -> Result<String> {
    let (rows, note) = drawn(rows);
    let all = || rows.iter().flat_map(|row| row.1);
    let (least, most) = (
        all().fold(f64::INFINITY, f64::min),
        all().fold(f64::NEG_INFINITY, f64::max),
    );
    // Values that differ in their last digits only are to look the same.
    let room = ((most - least) * 0.05).max(least.abs() * 1e-3).max(1e-9);
    let (least, most) = (least - room, most + room);
    let told = rows.iter().map(|(label, [from, _, half, _, to])| {
        format!("{label} {from:.3} to {to:.3}, p50 {half:.3}")
    });
    let told: Vec<String> = told.chain(note.clone()).collect();
    let scale = match least.is_finite() && most.is_finite() {
        true => format!("from {least:.3} to {most:.3}"),
        false => NONE.to_owned(),
    };
    let scale = note.map_or(scale.clone(), |note| format!("{scale}; {note}"));
    let height = |layout: Layout| layout.height(rows.len(), 1);
    let labels = rows.iter().map(|(label, _)| label.as_str());
    draw_twice(title, &told.join("; "), labels, height, |layout, area| {
        let left = layout.left();
        let room = f64::from(layout.width - left - 2 * MARGIN);
        let place = |value: f64| {
            let share = match most > least {
                true => (value - least) / (most - least),
                false => 0.5,
            };
            left + pixels(share.clamp(0.0, 1.0) * room)
        };
        for (at, (label, values)) in rows.iter().enumerate() {
            let [from, low, half, high, to] = values.map(place);
            let middle = layout.middle(at);
            let line = |from: (i32, i32), to: (i32, i32), width: u32| {
                PathElement::new([from, to], INK.stroke_width(width))
            };
            area.draw(&line((from, middle), (low, middle), 1))?;
            area.draw(&line((high, middle), (to, middle), 1))?;
            let corners = [(low, middle - 8), (high, middle + 8)];
            area.draw(&Rectangle::new(corners, pick(at).filled()))?;
            area.draw(&line((half, middle - 8), (half, middle + 8), 2))?;
            area.draw(&layout.label(at, label))?;
        }
        below(layout, area, rows.len(), Some(&scale))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(label: &str, value: f64, series: usize) -> Bar {
        Bar {
            label: label.into(),
            value,
            words: format!("{value:.1} ms"),
            series,
        }
    }

    #[test]
    fn a_chart_tells_its_values_and_takes_the_pages_ink() {
        let svg = bars("Latency", &[bar("a \"b\" & <c>", 1.0, 0), bar("d", 2.5, 1)]).unwrap();
        assert!(svg.starts_with("<svg role=\"img\""), "{svg}");
        // For a wide and for a narrow screen.
        assert_eq!(svg.matches("role=\"img\"").count(), 2, "{svg}");
        for class in ["class=\"chart wide\"", "class=\"chart narrow\""] {
            assert!(svg.contains(class), "{svg}");
        }
        assert!(
            svg.contains("a &quot;b&quot; &amp; &lt;c> 1.0 ms, d 2.5 ms"),
            "{svg}"
        );
        assert!(
            svg.contains("2.5 ms") && svg.contains("currentColor"),
            "{svg}"
        );
        assert!(svg.contains("font-size=\"14"), "{svg}");
        assert!(!svg.contains(INK_TEXT) && !svg.contains("<c>"), "{svg}");
        assert!(
            svg.contains(&colour(1).to_uppercase()) || svg.contains(&colour(1)),
            "{svg}"
        );
        let points = [(0.0, 0.0, Some(0)), (1.0, 2.0, Some(1)), (3.0, 1.0, None)];
        let svg = scatter("Plane", "3 points", &points).unwrap();
        assert_eq!(svg.matches("<circle").count(), 3, "{svg}");
        let svg = boxes("Norms", &[("a".into(), [0.0, 0.2, 0.5, 0.7, 1.0])]).unwrap();
        assert!(svg.contains("p50 0.500"), "{svg}");
        assert!(svg.contains("from -0.050 to 1.050"), "{svg}");
        // Nothing to draw is drawn as nothing.
        bars("Empty", &[]).unwrap();
        boxes("Empty", &[]).unwrap();
        boxes("Equal", &[("a".into(), [1.0; 5])]).unwrap();
    }

    #[test]
    fn a_chart_is_as_large_as_a_reader_can_take_and_says_so() {
        let many: Vec<Bar> = (0..100)
            .map(|at| bar(&format!("bar {at}."), 1.0, at))
            .collect();
        let svg = bars("Many", &many).unwrap();
        assert!(svg.contains("bar 39.") && !svg.contains("bar 40."), "{svg}");
        assert_eq!(svg.matches("the first 40 of 100").count(), 4, "{svg}");
        let svg = bars("Odd", &[bar("x", f64::NAN, 0), bar("y", f64::INFINITY, 0)]).unwrap();
        assert!(svg.contains(">\nx\n<") || svg.contains('x'), "{svg}");
    }

    #[test]
    fn a_long_label_keeps_its_beginning_and_its_end() {
        assert_eq!(shorten("album_2017", 26), "album_2017");
        assert_eq!(shorten("album_2018_family_pictures", 11), "album…tures");
        assert_eq!(shorten("ab", 0), "…");
    }
}
