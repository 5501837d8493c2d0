/** Servers that speak OpenAI's protocol: vLLM, llama.cpp, Ollama, OpenAI. */
export * as OpenAiClient from "./OpenAiClient.ts"
export * as OpenAiDecisionModel from "./OpenAiDecisionModel.ts"
export * as OpenAiLanguageModel from "./OpenAiLanguageModel.ts"
export * as OpenAiScore from "./OpenAiScore.ts"
export * from "../http/index.ts"
