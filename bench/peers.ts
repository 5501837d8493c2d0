/**
 * Charter against transformers and TRL, side by side: decoding, scoring, SFT, a reward model, DPO and GRPO.
 *
 *     python -m venv /tmp/peers && /tmp/peers/bin/pip install -r bench/peers/requirements.txt
 *     node bench/peers.ts MODEL --python /tmp/peers/bin/python [--only sft,dpo] [--turns 3] [--small]
 *         [--charter fp32,int8] [--peer fp32,bf16]
 *     node bench/peers.ts MODEL --gguf MODEL.gguf --modules /tmp/peers-node    # decoding, against node-llama-cpp
 *     node bench/peers.ts MODEL --onnx FOLDER --modules /tmp/peers-node        # decoding, against transformers.js
 *
 * Each side and precision is a process of its own. They are started and warmed up, and then both sides work one after
 * the other, one turn each, so that what else the machine does hits them alike. A turn in which other
 * processes took more than a tenth of the cores is taken again, a few times at most, and the quietest turns count: a
 * rate is their median. Beside the ratio of these rates is that of each side's fastest turn: a virtual machine does not
 * see what its host's other guests do to it. `--small` is for trying the scripts out: its figures say nothing.
 *
 * Of each process, the table has the memory that was resident at most, in GB, the share of the cores that it had in
 * its turns (`cpu`), and the share that others had meanwhile.
 */
import { spawn } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import { availableParallelism } from "node:os"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"

const usage = `node bench/peers.ts MODEL [--python PYTHON] [--only WORK,WORK] [--turns 3] [--charter fp32,int8] [--peer fp32,bf16]
    [--small] [--gguf FILE | --onnx FOLDER] [--modules FOLDER]
What each means is said at the top of the file.`

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    help: { type: "boolean", short: "h", default: false },
    python: { type: "string", default: "python3" },
    only: { type: "string" },
    turns: { type: "string", default: "3" },
    charter: { type: "string", default: "fp32,int8" },
    peer: { type: "string", default: "fp32,bf16" },
    gguf: { type: "string" },
    onnx: { type: "string" },
    modules: { type: "string", default: "." },
    small: { type: "boolean", default: false }
  }
})
const [model] = positionals
if (model === undefined || values.help) {
  console.log(usage)
  process.exit(values.help ? 0 : 2)
}

interface Work {
  readonly script: "decode" | "score" | "sft" | "reward" | "dpo" | "grpo"
  readonly name: string
  readonly unit: string
  readonly batch: number
  readonly length: number
  readonly tokens: number
  /** How many times the peer's rate, best precision of each; undefined where there is no goal. */
  readonly goal?: number
}

const decode = (batch: number, goal?: number): Work => ({
  script: "decode",
  name: `decoding, batch ${batch}`,
  unit: "tokens/s",
  batch,
  length: 64,
  tokens: 64,
  ...(goal === undefined ? {} : { goal })
})

const works: ReadonlyArray<Work> = [
  decode(1),
  decode(8),
  decode(32, 3),
  decode(64, 3),
  {
    script: "score",
    name: "scoring, rows of 128",
    unit: "tokens/s",
    batch: 64,
    length: 128,
    tokens: 0,
    goal: 1
  },
  {
    script: "sft",
    name: "SFT, 8 x 256",
    unit: "tokens/s",
    batch: 8,
    length: 256,
    tokens: 0,
    goal: 3
  },
  {
    script: "reward",
    name: "reward model, 8 pairs of 2 x 160",
    unit: "pairs/s",
    batch: 8,
    length: 60,
    tokens: 100,
    goal: 3
  },
  {
    script: "dpo",
    name: "DPO, 8 pairs of 2 x 160",
    unit: "pairs/s",
    batch: 8,
    length: 60,
    tokens: 100,
    goal: 3
  },
  {
    script: "grpo",
    name: "GRPO, 32 rollouts of 64",
    unit: "rollouts/s",
    batch: 32,
    length: 64,
    tokens: 64,
    goal: 3
  }
]

/** A peer in JavaScript, which decodes alone and takes the place of those in Python, with its goals by batch. */
interface Rival {
  readonly script: string
  readonly model: string
  readonly precision: string
  readonly goals: Readonly<Record<number, number | undefined>>
}

const rival = ((): Rival | undefined => {
  const { gguf, onnx } = values
  if (gguf !== undefined) {
    return { script: "llama-cpp.mjs", model: gguf, precision: "gguf", goals: { 1: 2.5, 32: 4 } }
  }
  if (onnx === undefined) return undefined
  return { script: "transformers-js.mjs", model: onnx, precision: "fp32", goals: { 1: undefined, 32: 6 } }
})()

const precisions = {
  Charter: values.charter.split(","),
  peer: rival === undefined ? values.peer.split(",") : [rival.precision]
}

const smaller = (work: Work): Work => ({
  ...work,
  batch: work.script === "grpo" ? 8 : Math.min(2, work.batch),
  length: Math.min(8, work.length),
  tokens: Math.min(4, work.tokens)
})

/** A line that a process prints for a turn. */
interface Line {
  readonly units: number
  readonly seconds: number
  readonly cpu: number
  readonly rate: number
  readonly peak_rss_gb: number
}

/** A turn with the share of the cores that other processes had in it, 0 where the system does not say. */
interface Turn extends Line {
  readonly others: number
}

/** Seconds that all processes had of the cores since the system's start. */
const busy = (): number => {
  if (!existsSync("/proc/stat")) return Number.NaN
  const [user, nice, system, , , irq, soft, steal] = readFileSync("/proc/stat", "utf8")
    .split(/\s+/)
    .slice(1)
    .map(Number)
  return (user! + nice! + system! + irq! + soft! + steal!) / 100
}

const quiet = 0.1
const attempts = 2

const file = (name: string) => fileURLToPath(new URL(`peers/${name}`, import.meta.url))

/** A process that waits to be told to take a turn. */
const participant = (side: string, precision: string, work: Work) => {
  const [command, ...script] =
    side === "Charter"
      ? [process.execPath, file("charter.ts"), work.script, model]
      : rival === undefined
        ? [values.python, file(`${work.script}.py`), model]
        : [process.execPath, file(rival.script), rival.model, "--modules", values.modules]
  const sizes = ["--batch", work.batch, "--length", work.length, "--tokens", work.tokens].map(String)
  const child = spawn(command!, [...script, "--precision", precision, ...sizes, "--led"], {
    stdio: ["pipe", "pipe", "pipe"]
  })
  const errors: Array<string> = []
  child.stderr.on("data", (data) => errors.push(String(data)))
  const closed = new Promise<void>((resolve) => child.on("close", () => resolve()))
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const next = async () => {
    const line = await lines.next()
    if (line.done === true) {
      throw new Error(`${side} ${precision} ended early:\n${errors.join("").slice(-2000)}`)
    }
    return JSON.parse(line.value) as unknown
  }
  return {
    side,
    precision,
    taken: [] as Array<Turn>,
    ready: next,
    turn: async (): Promise<Turn> => {
      const before = busy()
      child.stdin.write("go\n")
      const line = (await next()) as Line
      const others = (busy() - before - line.cpu) / line.seconds / availableParallelism()
      return { ...line, others: Number.isFinite(others) ? Math.max(0, others) : 0 }
    },
    end: async () => {
      child.stdin.end()
      await closed
    }
  }
}
type Participant = ReturnType<typeof participant>

const median = (xs: ReadonlyArray<number>): number => {
  const sorted = xs.toSorted((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}
const sum = (xs: ReadonlyArray<number>): number => xs.reduce((a, b) => a + b, 0)
const figure = (x: number): string => (x >= 100 ? x.toFixed(0) : x >= 10 ? x.toFixed(1) : x.toFixed(2))

const wanted = Number(values.turns)
/** The turns that count. */
const turns = (p: Participant): ReadonlyArray<Turn> => p.taken.toSorted((a, b) => a.others - b.others).slice(0, wanted)
const wants = (p: Participant): boolean =>
  p.taken.length < wanted * attempts && p.taken.filter((t) => t.others <= quiet).length < wanted

const rate = (p: Participant): number => median(turns(p).map((t) => t.rate))
const fastest = (p: Participant): number => Math.max(...p.taken.map((t) => t.rate))
const memory = (p: Participant): number => Math.max(...p.taken.map((t) => t.peak_rss_gb))
const cpu = (p: Participant): number =>
  sum(turns(p).map((t) => t.cpu)) / sum(turns(p).map((t) => t.seconds)) / availableParallelism()
const others = (p: Participant): number =>
  sum(turns(p).map((t) => t.others * t.seconds)) / sum(turns(p).map((t) => t.seconds))

/** All turns of a work; a side that fails is told of and left out. */
const measure = async (work: Work): Promise<ReadonlyArray<Participant>> => {
  const all: Array<Participant> = []
  const fails = (p: Participant) => (error: unknown) => {
    console.error(String(error))
    all.splice(all.indexOf(p), 1)
  }
  const start = async (side: string, precision: string) => {
    const p = participant(side, precision, work)
    all.push(p)
    await p.ready().catch(fails(p))
    return p
  }
  const turn = async (p: Participant) => {
    if (!all.includes(p)) return
    await p.turn().then((taken) => {
      p.taken.push(taken)
      console.error(work.name, p.side, p.precision, JSON.stringify(taken))
    }, fails(p))
  }
  const ours: Array<Participant> = []
  for (const precision of precisions.Charter) ours.push(await start("Charter", precision))
  // The peer's precisions one after the other: they are large.
  for (const precision of precisions.peer) {
    const peer = await start("peer", precision)
    while (all.includes(peer) && wants(peer)) {
      for (const p of ours) await turn(p)
      await turn(peer)
    }
    if (all.includes(peer)) await peer.end()
  }
  for (const p of ours.filter((p) => all.includes(p))) await p.end()
  return all
}

const only = values.only?.split(",")
const chosen = works.filter(({ batch, script }) =>
  rival === undefined ? only === undefined || only.includes(script) : script === "decode" && batch in rival.goals
)
const columns = [
  "Work",
  ...precisions.Charter.map((precision) => `Charter ${precision}`),
  ...precisions.peer.map((precision) => `peer ${precision}`),
  ...["Ratio", "Fastest", "Goal", "Memory", "cpu", "others"]
]
console.log(`| ${columns.join(" | ")} |\n|${columns.map(() => "---").join("|")}|`)
for (const work of chosen) {
  const done = await measure(values.small ? smaller(work) : work)
  const find = (side: string, precision: string) => done.find((p) => p.side === side && p.precision === precision)
  const cell = (p: Participant | undefined) => (p === undefined ? "" : figure(rate(p)))
  const ratio = (of: (p: Participant) => number) => {
    const best = (side: string) => Math.max(...done.filter((p) => p.side === side).map(of))
    return `${(best("Charter") / best("peer")).toFixed(2)}x`
  }
  const all = [
    ...precisions.Charter.map((precision) => find("Charter", precision)),
    ...precisions.peer.map((precision) => find("peer", precision))
  ]
  const each = (f: (p: Participant) => number, digits: number) =>
    all.map((p) => (p === undefined ? "-" : f(p).toFixed(digits))).join(" / ")
  const goal = rival === undefined ? work.goal : rival.goals[work.batch]
  const cells = [
    `${work.name}, ${work.unit}`,
    ...all.map(cell),
    ratio(rate),
    ratio(fastest),
    goal === undefined ? "" : `${goal}x`,
    each(memory, 1),
    each(cpu, 2),
    each(others, 2)
  ]
  console.log(`| ${cells.join(" | ")} |`)
}
