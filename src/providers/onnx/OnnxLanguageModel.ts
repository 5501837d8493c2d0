/**
 * OnnxLanguageModel: `effect/ai`'s LanguageModel over a Policy.
 *
 * It samples as `Sampling` says; a context found there reaches the policy unchanged, so a literal transcript meets no
 * chat template. Called outside a stage, it puts the prompt's messages through the model's template.
 */
import { Effect, Layer, Stream } from "effect"
import { AiError, LanguageModel, Model } from "effect/ai"
import type { Prompt } from "effect/ai"
import { Policy } from "../../Policy.ts"
import type { Message, ModelContext } from "../../Policy.ts"
import * as Sampling from "../../Sampling.ts"
import * as Written from "../http/Written.ts"
import { fromPolicyError } from "./PolicyAiError.ts"

const unsupported = (description: string) =>
  AiError.make({
    module: "OnnxLanguageModel",
    method: "generateText",
    reason: new AiError.InvalidRequestError({ description })
  })

/** The text of a message; a policy reads nothing else. */
const message = ({ role, content }: Prompt.Message): Effect.Effect<Message, AiError.AiError> => {
  if (role === "tool") return Effect.fail(unsupported("a policy calls no tools; leave tool messages out"))
  if (role === "system") return Effect.succeed({ role, content })
  const texts = content.flatMap((part) => (part.type === "text" ? [part.text] : []))
  return texts.length === content.length
    ? Effect.succeed({ role, content: texts.join("") })
    : Effect.fail(unsupported("a policy reads text only; leave files and tool calls out of the prompt"))
}

const contextOf = (prompt: Prompt.Prompt): Effect.Effect<ModelContext, AiError.AiError> =>
  Effect.forEach(prompt.content, message).pipe(Effect.map((messages) => ({ messages })))

/** The service over a policy. */
export const make: Effect.Effect<LanguageModel.LanguageModel, never, Policy> = Effect.gen(function* () {
  const policy = yield* Policy

  const generate = Effect.fnUntraced(function* ({ prompt, tools, responseFormat }: LanguageModel.ProviderOptions) {
    if (tools.length > 0) return yield* unsupported("a policy calls no tools; call it without a toolkit")
    if (responseFormat.type === "json") return yield* unsupported("a policy writes text; use generateText")
    const { context = yield* contextOf(prompt), options: _, principle: __, ...sampling } = yield* Sampling.Sampling
    const { finish, promptIds, text, tokenIds } = yield* policy
      .sample({ ...sampling, context })
      .pipe(Effect.mapError(fromPolicyError("OnnxLanguageModel", "generateText")))
    const tokens = { input: promptIds.length, output: tokenIds.length }
    return { text, model: policy.model, finish, tokens } satisfies Written.Written
  })

  return yield* LanguageModel.make({
    generateText: (options) => Effect.map(generate(options), Written.parts),
    streamText: (options) =>
      Stream.unwrap(Effect.map(generate(options), (written) => Stream.fromIterable(Written.streamParts(written))))
  })
})

/** The language model over the policy in force, with its name. */
export const layer: Layer.Layer<LanguageModel.LanguageModel | Model.ModelName, never, Policy> = Layer.merge(
  Layer.effect(LanguageModel.LanguageModel, make),
  Layer.effect(
    Model.ModelName,
    Effect.map(Policy, ({ model }) => model)
  )
)

/** The language model over a given policy, such as `Models.base`. */
export const fromPolicy = (policy: Policy["Service"]): Layer.Layer<LanguageModel.LanguageModel | Model.ModelName> =>
  Layer.provide(layer, Layer.succeed(Policy, policy))
