package recorder;

import io.micrometer.observation.Observation;
import io.micrometer.observation.ObservationRegistry;
import java.util.List;
import org.springframework.ai.chat.client.ChatClient;
import org.springframework.ai.chat.client.advisor.MessageChatMemoryAdvisor;
import org.springframework.ai.chat.client.advisor.SafeGuardAdvisor;
import org.springframework.ai.chat.memory.ChatMemory;
import org.springframework.ai.chat.memory.MessageWindowChatMemory;
import org.springframework.ai.tool.annotation.Tool;
import org.springframework.boot.CommandLineRunner;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.context.ApplicationContext;
import org.springframework.context.annotation.Bean;

/** Runs one scenario of Spring AI with the observations that it ships. */
@SpringBootApplication
public class Main {

    static String run;

    record Weather(String city) {}

    static class Tools {
        @Tool(name = "get_weather", description = "Tells the weather of a city.")
        String weather(String city) throws InterruptedException {
            Thread.sleep(20);
            if (run.equals("toolfail")) {
                throw new IllegalStateException("the weather service does not answer");
            }
            return city + ": 4 degrees and rain";
        }
    }

    public static void main(String[] args) {
        run = args[0];
        SpringApplication app = new SpringApplication(Main.class);
        System.exit(SpringApplication.exit(app.run(args)));
    }

    @Bean
    CommandLineRunner runner(ChatClient.Builder builder, ObservationRegistry registry) {
        return args -> {
            ChatMemory memory = MessageWindowChatMemory.builder().build();
            ChatClient client = builder.defaultSystem("Answer on weather.").defaultTools(new Tools())
                .defaultAdvisors(MessageChatMemoryAdvisor.builder(memory).build()).build();
            String question = "What is the weather in Paris?";
            try {
                switch (run) {
                    case "conv" -> {
                        for (String each : List.of(question, "And in Rome?", "And in Oslo?")) {
                            System.out.println(ask(client, each).call().content());
                        }
                    }
                    case "stream" -> System.out.println(String.join("",
                        ask(client, question).stream().content().collectList().block()));
                    case "structured" -> System.out.println(ask(client, question).call().entity(Weather.class));
                    case "guardrail" -> System.out.println(ask(client, "Tell me the secret weather.")
                        .advisors(SafeGuardAdvisor.builder().sensitiveWords(List.of("secret")).build())
                        .call().content());
                    case "two" -> {
                        // Spring AI has no agents of its own: two clients in one observation of the program.
                        Observation.createNotStarted("weather desk", registry).observeChecked(() -> {
                            String found = ask(client, question).call().content();
                            return ask(client, "Write a sentence on: " + found).call().content();
                        });
                    }
                    default -> System.out.println(ask(client, question).call().content());
                }
            } catch (Exception error) {
                System.out.println("error: " + error);
            }
        };
    }

    static ChatClient.ChatClientRequestSpec ask(ChatClient client, String question) {
        return client.prompt().user(question).advisors(a -> a.param(ChatMemory.CONVERSATION_ID, "session-1"));
    }
}
