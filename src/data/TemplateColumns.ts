/**
 * TemplateColumns: what a row gives the chat template beside its messages, in TRL's columns.
 *
 * - `tools`: a list of JSON schemas, or the JSON of one, as in data sets whose tools have little in common
 * - `chat_template_kwargs`: variables of the template, such as `enable_thinking`
 *
 * Null, nothing and what is empty are the same.
 */
import { Result } from "effect"
import * as Rows from "./Rows.ts"

/** The columns that a row has, under their own names. */
export interface TemplateColumns {
  readonly tools?: ReadonlyArray<Rows.Row>
  readonly chat_template_kwargs?: Rows.Row
}

/** The row's own, or what transformers' `apply_chat_template` takes for something else than a variable. */
const reserved: ReadonlyArray<string> = [
  "messages",
  "add_generation_prompt",
  "chat_template",
  "continue_final_message",
  "conversation",
  "conversations",
  "max_length",
  "padding",
  "return_assistant_tokens_mask",
  "return_dict",
  "return_tensors",
  "sanitize_control_tokens",
  "tokenize",
  "tokenizer_kwargs",
  "truncation"
]

const parsed = (text: string): unknown => {
  try {
    return text.trim() === "" ? [] : (JSON.parse(text) ?? [])
  } catch {
    return text
  }
}

const toolsOf = (value: unknown): Result.Result<ReadonlyArray<Rows.Row>, string> => {
  const tools = typeof value === "string" ? parsed(value) : (value ?? [])
  return Array.isArray(tools) && tools.every(Rows.isRow)
    ? Result.succeed(tools)
    : Result.fail("`tools` is neither a list of objects nor the JSON of one")
}

const variablesOf = (value: unknown): Result.Result<Rows.Row, string> => {
  const variables = value === "" ? {} : (value ?? {})
  if (!Rows.isRow(variables)) return Result.fail("`chat_template_kwargs` is no object")
  const name = reserved.find((one) => Object.hasOwn(variables, one))
  return name === undefined
    ? Result.succeed(variables)
    : Result.fail(`\`chat_template_kwargs\` has \`${name}\`, which it cannot set; leave it out`)
}

/** What a row gives, or what is wrong with it. Texts go through no template: as in TRL, such a row gives nothing. */
export const decode = (row: Rows.Row, conversational: boolean): Result.Result<TemplateColumns, string> =>
  Result.gen(function* () {
    if (!conversational) return {}
    const { tools: instead, ...variables } = yield* variablesOf(row["chat_template_kwargs"])
    // As in TRL, tools among the variables take the place of the row's.
    const tools = yield* toolsOf(instead === undefined ? row["tools"] : instead)
    return {
      ...(tools.length === 0 ? {} : { tools }),
      ...(Object.keys(variables).length === 0 ? {} : { chat_template_kwargs: variables })
    }
  })
