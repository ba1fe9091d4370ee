"""``lsn train-neg``: learn negative prompts, the paper's own part."""

from lsncli.cli import options, training


def train_neg(
    mode: training.Mode = "paper",
    learner: training.Learner = "coop",
    sets: training.Sets = None,
    specific: training.Specific = None,
    names: training.Names = None,
    position: training.Position = None,
    context_length: training.ContextLength = None,
    init: training.Init = None,
    tau: training.Tau = None,
    weight: training.Weight = None,
    orthogonality: training.Orthogonality = None,
    epochs: training.Epochs = None,
    batch_size: training.TrainBatch = None,
    rate: training.Rate = None,
    schedule: training.Schedule = None,
    warmup: training.Warmup = None,
    resume: training.Resume = True,
    seed: training.Seed = 0,
    target_tpr: options.TargetTpr = 0.95,
    work: options.WorkFolder = options.DEFAULT_WORK,
    pretrained: options.Pretrained = "",
    device: options.Device = "auto",
    precision: training.Precision = None,
    kernel: training.Kernel = "auto",
    memory: training.Memory = 4.0,
    format: options.Format = "table",
    output: options.Output = None,
    quiet: options.Quiet = False,
) -> None:
    """Learn K sets of class-specific negative contexts (Eq. 5-8), then calibrate an LSN detector.

    Uses the rows that `lsn train-pos` learned from; writes negative.safetensors and detector.safetensors.
    An interrupted training goes on when the same command is typed again.
    """
    training.learn("negative", locals(), following="lsn score ./images")
