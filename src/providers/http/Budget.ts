/**
 * Budget: a limit of tokens or of money, kept before each call.
 *
 * A call reserves what it may take at most and gives back what it did not take, so calls that run at the same time
 * cannot exceed the limit together. The first refusal ends everything inside {@link guard}, once the calls under way
 * have answered: they are paid for.
 */
import { Context, Deferred, Effect, Layer, Schema } from "effect"
import { AiError } from "effect/ai"
import { atLeastZero } from "../../Positive.ts"
import { failure } from "./Failure.ts"
import * as Tokens from "./Tokens.ts"

/** A number to a few digits: sums of prices end in rounding errors. */
const written = (x: number): string => String(Number.isInteger(x) ? x : Number(x.toPrecision(4)))

/** The next call could exceed the budget, so it was not made. */
export class BudgetExceeded extends Schema.TaggedError<BudgetExceeded>()("BudgetExceeded", {
  unit: Schema.Literals(["tokens", "money"]),
  limit: Schema.Finite,
  /** Spent, with what is reserved by the calls under way. */
  spent: Schema.Finite,
  /** What the refused call may take. */
  needed: Schema.Finite
}) {
  override get message(): string {
    const { unit, limit, spent, needed } = this
    return `the budget of ${limit} (${unit}) has ${written(limit - spent)} left and the next call may take ${written(needed)}: raise it to go on`
  }
}

/** The limits; without any, nothing is refused. */
export interface Options {
  /** At most so many tokens, read and written. */
  readonly tokens?: number | undefined
  /** At most so much money, in the currency of `price`. */
  readonly money?: { readonly limit: number; readonly price: Tokens.Price } | undefined
  /** What was spent of it before, such as by an earlier start of a run. */
  readonly spent?: Tokens.Tokens | undefined
}

/** What a call has reserved, to be settled with what it took. */
export interface Reservation {
  readonly settle: (taken: Tokens.Tokens) => Effect.Effect<void>
}

/** What may still be spent. */
export class Budget extends Context.Service<
  Budget,
  {
    readonly reserve: (atMost: Tokens.Tokens) => Effect.Effect<Reservation, BudgetExceeded>
    readonly spent: Effect.Effect<Tokens.Tokens>
    /** Never ends before the first refusal, and then fails with it when no call is under way. */
    readonly exceeded: Effect.Effect<never, BudgetExceeded>
  }
>()("charter/providers/Budget") {}

/** Inside a {@link guard} a refused call waits for its end: its sample is not failed, only not yet done. */
const Guarded: Context.Reference<boolean> = Context.Reference<boolean>("charter/providers/Budget/Guarded", {
  defaultValue: () => false
})

/** A budget for as long as the layer lives. */
export const layer = (options: Options): Layer.Layer<Budget> => {
  // Nothing is more than a limit that is no number: all would be paid for.
  const { tokens, money } = options
  if (tokens !== undefined) atLeastZero("tokens of a budget", tokens)
  if (money !== undefined) {
    atLeastZero("limit of a budget", money.limit)
    atLeastZero("price of input", money.price.input)
    atLeastZero("price of output", money.price.output)
  }
  return Layer.effect(
    Budget,
    Effect.gen(function* () {
      const refused = yield* Deferred.make<never, BudgetExceeded>()
      let spent = options.spent ?? Tokens.zero
      let reserved = Tokens.zero
      let underWay = 0
      let first: BudgetExceeded | undefined
      const end = Effect.suspend(() =>
        first !== undefined && underWay === 0 ? Effect.asVoid(Deferred.fail(refused, first)) : Effect.void
      )

      const refusal = (atMost: Tokens.Tokens): BudgetExceeded | undefined => {
        const so = Tokens.add(spent, reserved)
        const measures = [
          ...(options.tokens === undefined
            ? []
            : [{ unit: "tokens" as const, limit: options.tokens, measure: Tokens.total }]),
          ...(options.money === undefined ? [] : [moneyMeasure(options.money)])
        ]
        for (const { unit, limit, measure } of measures) {
          if (measure(Tokens.add(so, atMost)) > limit) {
            return new BudgetExceeded({ unit, limit, spent: measure(so), needed: measure(atMost) })
          }
        }
        return undefined
      }

      const reserve = Effect.fnUntraced(function* (atMost: Tokens.Tokens) {
        const guarded = yield* Guarded
        const error = (guarded ? first : undefined) ?? refusal(atMost)
        if (error !== undefined) {
          first ??= error
          yield* end
          return yield* guarded ? Effect.never : Effect.fail(error)
        }
        reserved = Tokens.add(reserved, atMost)
        underWay++
        const settle = (taken: Tokens.Tokens) =>
          Effect.andThen(
            Effect.sync(() => {
              reserved = { input: reserved.input - atMost.input, output: reserved.output - atMost.output }
              spent = Tokens.add(spent, taken)
              underWay--
            }),
            end
          )
        return { settle }
      })

      return { reserve, spent: Effect.sync(() => spent), exceeded: Deferred.await(refused) }
    })
  )
}

const moneyMeasure = ({ limit, price }: NonNullable<Options["money"]>) => ({
  unit: "money" as const,
  limit,
  measure: (tokens: Tokens.Tokens) => Tokens.cost(tokens, price)
})

/**
 * Ends an effect with {@link BudgetExceeded} before the first call that could exceed the budget, whatever its stages do
 * with failed samples: what is finished by then is kept, and nothing is rejected for want of money.
 */
export const guard = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E | BudgetExceeded, R | Budget> =>
  Effect.flatMap(Budget, ({ exceeded }) =>
    Effect.raceFirst(
      Effect.provideService(self, Guarded, true),
      // Whoever got the last answer makes use of it first.
      Effect.onError(exceeded, () => Effect.yieldNow)
    )
  )

const key = "charterBudget"

/** As the failure of a call. `effect/ai` has no description in it; {@link fromAiError} reads it back. */
export const toAiError = (module: string, method: string, error: BudgetExceeded): AiError.AiError => {
  const { unit, limit, spent, needed, message } = error
  const metadata = { [key]: { unit, limit, spent, needed, message } }
  return failure({ module, method }, new AiError.QuotaExhaustedError({ metadata }), message)
}

const isFields = Schema.is(Schema.Struct(BudgetExceeded.fields))

/** The budget's refusal, if a call failed for it. */
export const fromAiError = (error: AiError.AiError): BudgetExceeded | undefined => {
  if (error.reason._tag !== "QuotaExhaustedError") return undefined
  const found = error.reason.metadata[key]
  const fields = { _tag: "BudgetExceeded", ...(typeof found === "object" && found !== null ? found : {}) }
  return isFields(fields) ? new BudgetExceeded(fields) : undefined
}
