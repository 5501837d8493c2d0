/** Anthropic's models. */
export * as AnthropicClient from "./AnthropicClient.ts"
export * as AnthropicDecisionModel from "./AnthropicDecisionModel.ts"
export * as AnthropicLanguageModel from "./AnthropicLanguageModel.ts"
export * from "../http/index.ts"
