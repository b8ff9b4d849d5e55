//! The results as a part of a page of the documentation.

use std::fmt::Write as _;

use serde_json::Value;

use crate::COMMAND;

const BEGIN: &str = "<!-- begin collect -->";
const END: &str = "<!-- end collect -->";

/// The page with the results between its two marks.
pub(crate) fn inserted(page: &str, results: &Value) -> String {
    let marks = "the page has the marks of the labelling service's results";
    let (before, rest) = page.split_once(BEGIN).expect(marks);
    let (_, after) = rest.split_once(END).expect(marks);
    format!("{before}{BEGIN}\n\n{}\n{END}{after}", text(results))
}

fn text(results: &Value) -> String {
    let about = &results["about"];
    let mut text = format!(
        "Written by `{COMMAND}` ({}, {} build, {}, {} cores, {:.0} s): {}. [All \
         numbers](results/collect.json).\n\n",
        word(&about["date"]),
        word(&about["build"]),
        word(&about["processor"]),
        about["threads"],
        number(&about["took_s"]),
        word(&about["note"]),
    );
    text += &load(&results["load"]);
    text += &crowds(&results["crowds"]);
    text += &large(&results["large"]);
    text
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("unknown")
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

fn homes(value: &Value) -> Vec<(&str, &Value)> {
    let of = |name| value.get(name).map(|it| (name, it));
    ["SQLite", "PostgreSQL"].into_iter().filter_map(of).collect()
}

fn load(load: &Value) -> String {
    let mut text = String::from(
        "| 200 annotators on | work | judgements | per second | request | n | p50 ms | p99 ms | \
         longest ms |\n| --- | --- | ---: | ---: | --- | ---: | ---: | ---: | ---: |\n",
    );
    let mut sums = String::new();
    for (home, told) in homes(load) {
        let pause = number(&told["paced"]["pause_s"]);
        let kinds = [
            ("without a pause".to_owned(), &told["without_pauses"]),
            (format!("{pause:.0} s for each item"), &told["paced"]["told"]),
        ];
        for (work, told) in kinds {
            let of = |request: &str, latency: &Value| {
                format!(
                    "| {home} | {work} | {} | {:.0} | {request} | {} |\n",
                    told["judgements"],
                    number(&told["judgements_per_second"]),
                    latencies(latency)
                )
            };
            text += &of("next item", &told["next"]);
            text += &of("judgement", &told["submit"]);
            for (page, latency) in told["pages"].as_object().into_iter().flatten() {
                text += &of(&format!("`{page}`"), latency);
            }
        }
        let _ = writeln!(
            sums,
            "\n{home}: {} judgements were acknowledged; {} of them are not there, {} are there twice; {} \
             items went beyond their overlap of {}.",
            told["acknowledged"],
            told["lost"],
            told["doubled"],
            told["beyond_overlap"],
            told["overlap"]
        );
    }
    text + &sums + "\n"
}

fn crowds(crowds: &Value) -> String {
    let mut text = format!(
        "{} annotators, {:.0} s for each item, beside those that only hold on:\n\n| half-open connections | live prompts | \
         streams of judgements | request | n | p50 ms | p99 ms | longest ms | memory before, after |\n\
         | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |\n",
        crowds["annotators"],
        number(&crowds["pause_s"])
    );
    for told in [&crowds["alone"], &crowds["with_a_crowd"]] {
        let (crowd, memory) = (&told["crowd"], &told["memory_mib"]);
        for (request, name) in [("next item", "next"), ("judgement", "submit")] {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {request} | {} | {}, {} MiB |",
                crowd["half_open"],
                crowd["live_prompts"],
                crowd["streams"],
                latencies(&told[name]),
                memory["before"],
                memory["after"]
            );
        }
    }
    let answers = crowds["with_a_crowd"]["live_answers"].as_object();
    let of = |status: &str| answers.and_then(|answers| answers.get(status)?.as_u64()).unwrap_or(0);
    text + &format!(
        "\nThe memory is that of service, annotators and crowd together. Of the live prompts {} were being answered by the end, {} were refused (429).\n\n",
        of("200"),
        of("429")
    )
}

fn latencies(told: &Value) -> String {
    format!(
        "{} | {:.1} | {:.1} | {:.1}",
        told["n"],
        number(&told["p50_ms"]),
        number(&told["p99_ms"]),
        number(&told["max_ms"])
    )
}

fn large(large: &Value) -> String {
    let homes = homes(large);
    let mut text = format!(
        "With {} items and {} judgements, one request after another:\n\n| | ",
        large["items"], large["judgements"]
    );
    let names: Vec<&str> = homes.iter().map(|(name, _)| *name).collect();
    let _ = writeln!(text, "{} |\n| --- |{}", names.join(" | "), " ---: |".repeat(homes.len()));
    let row = |what: &str, of: &dyn Fn(&Value) -> String| {
        let cells: Vec<String> = homes.iter().map(|(_, told)| of(told)).collect();
        format!("| {what} | {} |\n", cells.join(" | "))
    };
    text += &row("import from a file", &|told| format!("{:.1} s", number(&told["import_s"])));
    let pages = homes.first().and_then(|(_, told)| told["pages"].as_object());
    for (page, _) in pages.into_iter().flatten() {
        text += &row(&format!("`{page}`: p50, p99, first ms"), &|told| {
            let told = &told["pages"][page];
            format!(
                "{:.1}, {:.1}, {:.0}",
                number(&told["then"]["p50_ms"]),
                number(&told["then"]["p99_ms"]),
                number(&told["first_ms"])
            )
        });
    }
    text += "\nA label is seen, from the moment at which it is sent:\n\n| | in | n | p50 ms | p99 ms | longest ms |\n\
             | --- | --- | ---: | ---: | ---: | ---: |\n";
    for (home, told) in &homes {
        let parts = [
            ("the next item", "next_item"),
            ("the estimates on the page of the analysis", "estimates"),
        ];
        for (what, name) in parts {
            for (when, words) in
                [("then", ""), ("while_computing", ", while the rest of it is computed")]
            {
                let told = latencies(&told["seen"][when][name]);
                let _ = writeln!(text, "| {home} | {what}{words} | {told} |");
            }
        }
    }
    let analysis = &large["analysis"];
    text + &format!(
        "\nThe analysis takes {:.1} s to read the records, {:.1} s to compute and {:.1} s to draw a \
         page of {} bytes.\n",
        number(&analysis["read_records_s"]),
        number(&analysis["analysis_s"]),
        number(&analysis["page_s"]),
        analysis["page_bytes"]
    )
}
