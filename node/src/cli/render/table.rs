//! Columns without borders.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// How a column is aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Lays out `rows` under `headers`; every line ends without blanks.
pub fn columns<const N: usize>(headers: [(&str, Align); N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    let titled = headers.iter().any(|(title, _)| !title.is_empty());
    if titled {
        table.set_header(headers.map(|(title, _)| title));
    }
    for row in rows {
        table.add_row(row);
    }
    for (column, (_, align)) in table.column_iter_mut().zip(headers) {
        column.set_padding((0, 2));
        column.set_cell_alignment(match align {
            Align::Left => CellAlignment::Left,
            Align::Right => CellAlignment::Right,
        });
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_without_borders() {
        let text = columns(
            [("PEER", Align::Left), ("EQS", Align::Right), ("WHY", Align::Left)],
            [["attic", "71", "this device"], ["kitchen-pi", "8", ""]].map(|row| row.map(str::to_owned)),
        );
        assert_eq!(text, "PEER        EQS  WHY\nattic        71  this device\nkitchen-pi    8\n");
    }
}
