//! A ledger as a table for other programs.

use super::{Entry, Outcome};

/// The records as CSV with a header, one line a job; validations but the last are left out.
pub fn csv(entries: &[Entry]) -> String {
    let mut text = "job,architecture,variant,seed,from,outcome,top1_error,top5_error,\
                    best_top1_error,best_top5_error,loss,parameters,macs,steps,batch_size,images,\
                    total_images,ms_per_step,seconds,peak_memory_bytes,recipe,processor,instructions,\
                    threads,device,version,ended,network,reason\n"
        .to_owned();
    for entry in entries {
        let cells: Vec<String> = cells(entry).iter().map(|cell| quoted(cell)).collect();
        text += &(cells.join(",") + "\n");
    }
    text
}

fn cells(entry: &Entry) -> Vec<String> {
    let number = |number: Option<f64>| number.map_or_else(String::new, |number| number.to_string());
    let mut cells = vec![
        entry.job.clone(),
        entry.architecture.clone(),
        entry.variant.clone(),
        entry.seed.to_string(),
        entry.from.clone().unwrap_or_default(),
    ];
    let mut reason = "";
    match &entry.outcome {
        Outcome::Finished(figures) => cells.extend([
            "finished".to_owned(),
            figures.top1_error.to_string(),
            figures.top5_error.to_string(),
            figures.best_top1_error.to_string(),
            figures.best_top5_error.to_string(),
            number(figures.loss),
            figures.parameters.to_string(),
            figures.macs.to_string(),
            figures.steps.to_string(),
            figures.batch_size.to_string(),
            figures.images.to_string(),
            figures.total_images.to_string(),
            number(figures.ms_per_step),
            number(figures.seconds),
            (figures.peak_memory_bytes).map_or_else(String::new, |bytes| bytes.to_string()),
        ]),
        Outcome::Failed { reason: why } => {
            cells.push("failed".to_owned());
            cells.resize(cells.len() + 14, String::new());
            reason = why;
        }
    }
    let machine = &entry.machine;
    cells.extend([
        entry.recipe.clone(),
        machine.processor.clone(),
        machine.instructions.clone(),
        machine.threads.to_string(),
        machine.device.clone(),
        machine.version.clone(),
        machine.ended.to_string(),
        entry.network.clone(),
        reason.to_owned(),
    ]);
    cells
}

fn quoted(cell: &str) -> String {
    match cell.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.to_owned(),
    }
}
