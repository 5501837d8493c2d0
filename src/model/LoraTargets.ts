/**
 * LoraTargets: which linear maps a LoRA adapts, each with which rank and which factor.
 *
 * The rules are PEFT's (`check_target_module_exists` and `get_pattern_key` of https://github.com/huggingface/peft): a
 * list names the ends of module names, a pattern has to match a whole name, and the first pattern of `rank_pattern` or
 * `alpha_pattern` that matches the end of a name gives that map its own rank or alpha.
 */
import { Result } from "effect"
import * as Bounded from "./Bounded.ts"
import type { Linear } from "./ModelConfig.ts"
import * as Quoted from "./Quoted.ts"

/** What decides it. */
export interface Targets {
  readonly rank: number
  readonly alpha: number
  /** The ends of module names such as `q_proj`, or one pattern for whole names, or `all-linear`. */
  readonly targets: ReadonlyArray<string> | string
  /** Ranks of single maps by pattern. */
  readonly rankPattern?: Readonly<Record<string, number>>
  /** Alphas of single maps by pattern. */
  readonly alphaPattern?: Readonly<Record<string, number>>
  /** Modules that the adapter replaces as a whole, by the ends of their names, such as `lm_head`. */
  readonly modulesToSave?: ReadonlyArray<string>
  /** Whether the factor is alpha / sqrt(rank) (https://arxiv.org/abs/2312.03732) instead of alpha / rank. */
  readonly rsLora?: boolean
}

/** A map's rank, and the factor of its change B A. */
export interface Adaptation {
  readonly rank: number
  readonly scale: number
}

/**
 * Patterns come from files of other people: one that takes longer than this, in ms, is refused. By the clock, so it is
 * far more than any good pattern takes on a busy machine.
 */
const patience = 3000

/** Python's spelling of a pattern in JavaScript's. */
const fromPython = (pattern: string): string =>
  pattern
    .replaceAll("(?P<", "(?<")
    .replace(/\(\?P=(\w+)\)/g, "\\k<$1>")
    .replaceAll("\\Z", "$")
    .replaceAll("\\A", "^")

/** For each pattern, whether it matches each of the names; a failure says what is wrong with which pattern. */
const matchAll = (
  patterns: ReadonlyArray<readonly [pattern: string, whole: (pattern: string) => string]>,
  names: ReadonlyArray<string>
): Result.Result<ReadonlyArray<ReadonlyArray<boolean>>, string> => {
  if (patterns.length === 0) return Result.succeed([])
  const compiled: Array<RegExp> = []
  for (const [pattern, whole] of patterns) {
    try {
      compiled.push(new RegExp(whole(fromPython(pattern)), "u"))
    } catch {
      return Result.fail(`has the pattern ${Quoted.quoted(pattern)}, which is not understood; simplify it`)
    }
  }
  return Result.try({
    try: () => Bounded.within(patience, () => compiled.map((pattern) => names.map((name) => pattern.test(name)))),
    catch: () => "has a pattern that takes too long to match a module's name; simplify it"
  })
}

/** Patterns with values: they match the end of a name. */
const ending = (pattern: string) => `^(?:.*\\.)?(?:${pattern})$`
/** A pattern for target modules matches a whole name. */
const entire = (pattern: string) => `^(?:${pattern})$`

const isAllLinear = (targets: Targets["targets"]): boolean =>
  typeof targets === "string" && targets.toLowerCase() === "all-linear"

/** Whether PEFT adapts a map when `target` is in its list of target modules. */
export const endsIn = (target: string, path: string): boolean => path === target || path.endsWith(`.${target}`)

/** Rank and factor of each of the maps by path; a failure is the end of a sentence about the configuration. */
export const adaptations = (
  config: Targets,
  paths: ReadonlyArray<string>
): Result.Result<ReadonlyMap<string, Adaptation>, string> => {
  const ranks = Object.entries(config.rankPattern ?? {})
  const alphas = Object.entries(config.alphaPattern ?? {})
  const patterns = [...ranks, ...alphas].map(([pattern]) => [pattern, ending] as const)
  return Result.map(matchAll(patterns, paths), (matched) => {
    const first = (of: ReadonlyArray<readonly [string, number]>, from: number, name: number, otherwise: number) =>
      of.find((_, i) => matched[from + i]![name])?.[1] ?? otherwise
    return new Map(
      paths.map((path, i) => {
        const rank = first(ranks, 0, i, config.rank)
        const alpha = first(alphas, ranks.length, i, config.alpha)
        return [path, { rank, scale: alpha / (config.rsLora === true ? Math.sqrt(rank) : rank) }]
      })
    )
  })
}

/**
 * The maps of a model that are adapted, in the model's order. A failure is the end of a sentence about the
 * configuration: nothing in it fits a map. As in PEFT, a list may name more than the model has.
 */
export const select = (
  linears: ReadonlyArray<Linear>,
  { modulesToSave = [], targets }: Pick<Targets, "modulesToSave" | "targets">
): Result.Result<ReadonlyArray<Linear>, string> => {
  const candidates = linears.filter(({ path }) => !modulesToSave.some((module) => isWithin(module, path)))
  const chosen = ((): Result.Result<ReadonlyArray<Linear>, string> => {
    if (isAllLinear(targets)) return Result.succeed(candidates)
    if (typeof targets !== "string") {
      return Result.succeed(candidates.filter(({ path }) => targets.some((target) => endsIn(target, path))))
    }
    const matched = matchAll(
      [[targets, entire]],
      candidates.map(({ path }) => path)
    )
    return Result.map(matched, ([found]) => candidates.filter((_, i) => found![i]))
  })()
  return Result.flatMap(chosen, (some) =>
    some.length > 0
      ? Result.succeed(some)
      : Result.fail(
          `adapts ${Quoted.quoted([targets].flat().join(", ") || "nothing")}, which the model does not have; it has ${names(linears).join(", ")}`
        )
  )
}

/** Whether a module is the one that `modules_to_save` names, or lies in it. */
const isWithin = (module: string, path: string): boolean => `.${path}.`.includes(`.${module}.`)

/**
 * The parameters that an adapter replaces as a whole, by name and shape: those of the modules whose names end in one of
 * `modules_to_save`.
 */
export const saved = (
  parameters: ReadonlyMap<string, ReadonlyArray<number>>,
  modulesToSave: ReadonlyArray<string> = []
): Map<string, ReadonlyArray<number>> =>
  new Map([...parameters].filter(([name]) => modulesToSave.some((module) => isOf(module, name))))

/** Whether a parameter belongs to a module whose name ends in `module`. */
export const isOf = (module: string, parameter: string): boolean => {
  for (let dot = parameter.indexOf("."); dot >= 0; dot = parameter.indexOf(".", dot + 1)) {
    if (parameter.slice(0, dot).endsWith(module)) return true
  }
  return false
}

/** The last parts of the names of a model's linear maps, each once, such as `q_proj`. */
export const names = (linears: ReadonlyArray<Linear>): ReadonlyArray<string> => [
  ...new Set(linears.map((linear) => linear.path.slice(linear.path.lastIndexOf(".") + 1)))
]
