//! Greets whoever stands on a line. stdin has some lines of the input: other devices may have the others.

use std::io::{self, BufRead, Write};

mod msm;

fn main() -> io::Result<()> {
    let greeting = std::env::var("MSM_PARAM_GREETING").unwrap_or_else(|_| "Hello".to_owned());
    let (input, mut output) = (io::stdin().lock(), io::BufWriter::new(io::stdout().lock()));
    for line in input.split(b'\n') {
        write!(output, "{}, ", greeting)?;
        output.write_all(&line?)?;
        output.write_all(b"!\n")?;
    }
    output.flush()
}
