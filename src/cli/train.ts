/**
 * `charter train`: supervised fine-tuning, reward models, direct preference optimisation and reinforcement learning,
 * each in a folder that can be killed and continued.
 */
import { Effect, Option } from "effect"
import { Command, Flag } from "effect/cli"
import * as DeviceFlag from "./DeviceFlag.ts"
import * as Native from "./Native.ts"
import * as Progress from "./Progress.ts"

const common = {
  model: Flag.String("model").pipe(
    Flag.withMetavar("DIR"),
    Flag.withDescription("A Hugging Face model folder; rows of token ids need no tokenizer in it")
  ),
  adapter: Flag.String("adapter").pipe(
    Flag.withMetavar("DIR"),
    Flag.withDescription("A PEFT adapter to go on from; it is also the reference of dpo, ppo, grpo and rloo"),
    Flag.optional
  ),
  out: Flag.String("out").pipe(
    Flag.withMetavar("DIR"),
    Flag.withDescription("The folder of the training; the same command again goes on in it")
  ),
  loraRank: Flag.Int("lora-rank").pipe(Flag.withDescription("Rank of a new adapter (default: 16)"), Flag.optional),
  loraAlpha: Flag.Finite("lora-alpha").pipe(
    Flag.withDescription("Alpha of a new adapter (default: twice the rank)"),
    Flag.optional
  ),
  loraTargets: Flag.String("lora-targets").pipe(
    Flag.withMetavar("q_proj,v_proj"),
    Flag.withDescription("The linear layers of a new adapter (default: all)"),
    Flag.optional
  ),
  full: Flag.Boolean("full").pipe(
    Flag.withDescription("Train all parameters and write a whole model folder"),
    Flag.withDefault(false)
  ),
  steps: Flag.Int("steps").pipe(Flag.withDescription("Optimizer steps"), Flag.optional),
  batchSize: Flag.Int("batch-size").pipe(Flag.withDescription("Rows of an optimizer step"), Flag.optional),
  microBatch: Flag.Int("micro-batch").pipe(
    Flag.withDescription("Rows that are computed together (default: as many as have 640 tokens)"),
    Flag.optional
  ),
  learningRate: Flag.Finite("learning-rate").pipe(
    Flag.withDescription("Peak learning rate (default: docs/training.md has a table)"),
    Flag.optional
  ),
  schedule: Flag.Literals("schedule", ["constant", "linear", "cosine"]).pipe(
    Flag.withDescription("How the rate falls after the warm-up: linear to 0, cosine to a tenth"),
    Flag.withDefault("cosine" as const)
  ),
  warmup: Flag.Finite("warmup").pipe(
    Flag.withDescription("Steps of linear warm-up, or below 1 a share of all steps"),
    Flag.withDefault(0.03)
  ),
  weightDecay: Flag.Finite("weight-decay").pipe(Flag.withDescription("Decoupled decay"), Flag.withDefault(0)),
  maxGradNorm: Flag.Finite("max-grad-norm").pipe(
    Flag.withDescription("The gradient is scaled down to this norm"),
    Flag.withDefault(1)
  ),
  maxLength: Flag.Int("max-length").pipe(
    Flag.withDescription("Longer rows are rejected (default: 1024, or the model's positions)"),
    Flag.optional
  ),
  precision: Flag.Literals("precision", ["fp32", "int8"]).pipe(
    Flag.withDescription("How frozen linear maps are computed, forward and backward"),
    Flag.withDefault("fp32" as const)
  ),
  device: DeviceFlag.device,
  recompute: Flag.Boolean("recompute").pipe(
    Flag.withDescription("Compute layers again in the backward pass: less memory, a third more time"),
    Flag.withDefault(false)
  ),
  saveEvery: Flag.Int("save-every").pipe(
    Flag.withDescription("Keep a checkpoint and evaluate every so many steps (default: only at the end)"),
    Flag.withDefault(0)
  ),
  keep: Flag.Int("keep").pipe(
    Flag.withDescription("So many of the newest checkpoints are kept, and with --eval the best"),
    Flag.withDefault(3)
  ),
  seed: Flag.Int("seed").pipe(Flag.withDescription("Where all random choices come from"), Flag.withDefault(1))
}

const fromData = {
  data: Flag.String("data").pipe(
    Flag.withMetavar("FILE"),
    Flag.withDescription("Examples in any of TRL's shapes, or token ids: JSONL, JSON, CSV, Parquet; .gz too")
  ),
  eval: Flag.String("eval").pipe(
    Flag.withMetavar("FILE"),
    Flag.withDescription("Examples to evaluate on: eval_loss"),
    Flag.optional
  ),
  epochs: Flag.Int("epochs").pipe(Flag.withDescription("Times over the data (default: 1)"), Flag.optional)
}

const packing = Flag.Boolean("packing").pipe(
  Flag.withDescription("Fill micro-batches with rows of any lengths, in place of rows alike in length"),
  Flag.withDefault(false)
)

const notDpo = { beta: 0.1, loss: "sigmoid", labelSmoothing: 0 } as const

/** The engine is loaded only here, so that a wrong argument is answered at once. */
const examples = Effect.fnUntraced(function* (input: import("./TrainRun.ts").Input) {
  const TrainRun = yield* Native.load(() => import("./TrainRun.ts"))
  yield* TrainRun.execute(input).pipe(Effect.provide(Progress.layer))
})

const sft = Command.make("sft", { ...common, ...fromData, packing }, (input) =>
  examples({ ...input, ...notDpo, kind: "sft" })
).pipe(
  Command.withDescription("Learn completions: the loss is on the completion only"),
  Command.withExamples([
    {
      command: "charter train sft --model ./SmolLM2-135M-Instruct --data chats.jsonl --out runs/sft",
      description: "LoRA on all linear layers; the same command again resumes"
    }
  ])
)

const reward = Command.make("reward", { ...common, ...fromData }, (input) =>
  examples({ ...input, ...notDpo, packing: false, kind: "reward" })
).pipe(
  Command.withDescription("Learn a reward model from pairs, with soft labels or margins where they have them"),
  Command.withExamples([
    {
      command: "charter train reward --model ./SmolLM2-135M-Instruct --data pairs.jsonl --out runs/reward",
      description: "Scores answers afterwards: charter score --adapter runs/reward"
    }
  ])
)

const dpo = Command.make(
  "dpo",
  {
    ...common,
    ...fromData,
    beta: Flag.Finite("beta").pipe(Flag.withDescription("The pull towards the reference"), Flag.withDefault(0.1)),
    loss: Flag.Literals("loss", ["sigmoid", "ipo"]).pipe(
      Flag.withDescription("DPO's own loss, or the squared one"),
      Flag.withDefault("sigmoid" as const)
    ),
    labelSmoothing: Flag.Finite("label-smoothing").pipe(
      Flag.withDescription("The share of labels taken to be wrong"),
      Flag.withDefault(0)
    )
  },
  (input) => examples({ ...input, packing: false, kind: "dpo" })
).pipe(
  Command.withDescription("Learn from pairs directly, held near the reference"),
  Command.withExamples([
    {
      command: "charter train dpo --model ./SmolLM2-135M-Instruct --adapter runs/sft --data pairs.jsonl --out runs/dpo",
      description: "Goes on from an adapter, and is held near it"
    }
  ])
)

const fromRewards = {
  rewardModel: Flag.String("reward-model").pipe(
    Flag.withMetavar("DIR"),
    Flag.withDescription("What charter train reward made over the same model, or as a whole with --full")
  ),
  prompts: Flag.String("prompts").pipe(
    Flag.withMetavar("FILE"),
    Flag.withDescription("Rows of prompt (text or messages) or input_ids")
  ),
  maxTokens: Flag.Int("max-tokens").pipe(Flag.withDescription("Tokens of an answer at most"), Flag.withDefault(128)),
  temperature: Flag.Finite("temperature").pipe(Flag.withDescription("Of sampling"), Flag.withDefault(1)),
  samples: Flag.Int("samples").pipe(
    Flag.withDescription("Answers to each prompt of an update (default: 1 for ppo, 8 for grpo, 4 for rloo)"),
    Flag.optional
  ),
  updateEpochs: Flag.Int("update-epochs").pipe(
    Flag.withDescription("Times over the answers of an update"),
    Flag.withDefault(1)
  ),
  minibatchSize: Flag.Int("minibatch-size").pipe(
    Flag.withDescription("Answers of an optimizer step (default: all of the update)"),
    Flag.optional
  ),
  klCoefficient: Flag.Finite("kl-coefficient").pipe(
    Flag.withDescription("The pull towards the reference (default: 0.05 in the reward; 0 in the loss of grpo)"),
    Flag.optional
  ),
  klTarget: Flag.Finite("kl-target").pipe(
    Flag.withDescription("Adapts the coefficient to so many nats per answer"),
    Flag.optional
  ),
  clip: Flag.Finite("clip").pipe(Flag.withDescription("The ratio counts within 1 +- this"), Flag.withDefault(0.2)),
  rewardClip: Flag.Finite("reward-clip").pipe(Flag.withDescription("Scores count within +- this"), Flag.optional),
  missingStopPenalty: Flag.Finite("missing-stop-penalty").pipe(
    Flag.withDescription("Taken from the reward of an answer that was cut off before its end"),
    Flag.withDefault(1)
  )
}

const notPpo = { valueClip: 0.2, valueCoefficient: 0.1, gamma: 1, lambda: 0.95, valueLearningRate: Option.none() }
const notGrpo = { aggregation: "token" } as const

const rollouts = Effect.fnUntraced(function* (input: import("./TrainPolicySettings.ts").Input) {
  const TrainPolicy = yield* Native.load(() => import("./TrainPolicy.ts"))
  yield* TrainPolicy.execute(input).pipe(Effect.provide(Progress.layer))
})

const policyExamples = (kind: string) =>
  Command.withExamples([
    {
      command: `charter train ${kind} --model ./SmolLM2-135M-Instruct --adapter runs/sft --reward-model runs/reward --prompts prompts.jsonl --out runs/${kind}`,
      description: "Answers of an adapter, rewarded by what charter train reward made"
    }
  ])

const ppo = Command.make(
  "ppo",
  {
    ...common,
    ...fromRewards,
    valueClip: Flag.Finite("value-clip").pipe(
      Flag.withDescription("A value counts within +- this of its old one"),
      Flag.withDefault(0.2)
    ),
    valueCoefficient: Flag.Finite("value-coefficient").pipe(
      Flag.withDescription("Of the value loss"),
      Flag.withDefault(0.1)
    ),
    valueLearningRate: Flag.Finite("value-learning-rate").pipe(
      Flag.withDescription("Of the value head (default: ten times the learning rate)"),
      Flag.optional
    ),
    gamma: Flag.Finite("gamma").pipe(Flag.withDescription("Discount of later rewards"), Flag.withDefault(1)),
    lambda: Flag.Finite("lambda").pipe(Flag.withDescription("Of the advantage estimate"), Flag.withDefault(0.95))
  },
  (input) => rollouts({ ...input, ...notGrpo, kind: "ppo" })
).pipe(
  Command.withDescription("Proximal policy optimisation against a reward model, with a value head"),
  policyExamples("ppo")
)

const grpo = Command.make(
  "grpo",
  {
    ...common,
    ...fromRewards,
    aggregation: Flag.Literals("aggregation", ["token", "sequence"]).pipe(
      Flag.withDescription("A mean over all tokens, or over each answer's first"),
      Flag.withDefault("token" as const)
    )
  },
  (input) => rollouts({ ...input, ...notPpo, kind: "grpo" })
).pipe(Command.withDescription("Group-relative policy optimisation against a reward model"), policyExamples("grpo"))

const rloo = Command.make("rloo", { ...common, ...fromRewards }, (input) =>
  rollouts({ ...input, ...notPpo, ...notGrpo, kind: "rloo" })
).pipe(
  Command.withDescription("REINFORCE with leave-one-out advantages against a reward model"),
  policyExamples("rloo")
)

/** `charter train`. */
export const command = Command.make("train").pipe(
  Command.withDescription("Train an adapter or a whole model in a folder that can be killed and continued"),
  Command.withSubcommands([sft, reward, dpo, ppo, grpo, rloo]),
  Command.withExamples([
    {
      command: "charter train sft --model ./SmolLM2-135M-Instruct --data chats.jsonl --out runs/sft",
      description: "Supervised; charter train reward --help and the others have examples of their own"
    }
  ])
)
