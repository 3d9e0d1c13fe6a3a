// An ICE agent on libnice (Debian: libnice-dev, libjson-glib-dev) that speaks JSON lines; see README.md.
// Build: gcc -o nice_agent nice_agent.c $(pkg-config --cflags --libs nice json-glib-1.0)
#include <json-glib/json-glib.h>
#include <nice/agent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static NiceAgent *agent;
// The first of the streams, which are numbered one after the other.
static guint stream;
static int streams = 1, components = 1, ready;
static GMainLoop *loop;
static gint64 started;
static gboolean connected;

static char *role = "controlling", *bind_to, *stun, *turn, *transport = "udp", *user = "test", *pass = "secret",
            *policy = "all";

static gboolean tcp_only;
static GOptionEntry options[] = {
    {"role", 0, 0, G_OPTION_ARG_STRING, &role, 0, 0},
    {"bind", 0, 0, G_OPTION_ARG_STRING, &bind_to, 0, 0},
    {"stun", 0, 0, G_OPTION_ARG_STRING, &stun, 0, 0},
    {"turn", 0, 0, G_OPTION_ARG_STRING, &turn, 0, 0},
    {"turn-transport", 0, 0, G_OPTION_ARG_STRING, &transport, 0, 0},
    {"user", 0, 0, G_OPTION_ARG_STRING, &user, 0, 0},
    {"pass", 0, 0, G_OPTION_ARG_STRING, &pass, 0, 0},
    {"policy", 0, 0, G_OPTION_ARG_STRING, &policy, 0, 0},
    {"streams", 0, 0, G_OPTION_ARG_INT, &streams, 0, 0},
    {"components", 0, 0, G_OPTION_ARG_INT, &components, 0, 0},
    {"tcp-only", 0, 0, G_OPTION_ARG_NONE, &tcp_only, 0, 0},
    {NULL, 0, 0, 0, NULL, 0, 0},
};

// Writes one JSON object of strings: emit("t", "recv", "d", text, NULL).
static void emit(const char *key, ...) {
  JsonBuilder *builder = json_builder_new();
  json_builder_begin_object(builder);
  va_list values;
  va_start(values, key);
  for (; key; key = va_arg(values, const char *)) {
    json_builder_set_member_name(builder, key);
    json_builder_add_string_value(builder, va_arg(values, const char *));
  }
  va_end(values);
  json_builder_end_object(builder);
  JsonNode *root = json_builder_get_root(builder);
  char *text = json_to_string(root, FALSE);
  puts(text);
  fflush(stdout);
  g_free(text);
  json_node_free(root);
  g_object_unref(builder);
}

// The number of a stream or component as text, good until the next but one is asked for.
static const char *number(guint value) {
  static char text[2][12];
  static int next;
  next = !next;
  snprintf(text[next], sizeof text[next], "%u", value);
  return text[next];
}

static void on_candidate(NiceAgent *a, NiceCandidate *candidate, gpointer data) {
  char *line = nice_agent_generate_local_candidate_sdp(agent, candidate);
  emit("t", "cand", "c", line + strlen("a="), "m", number(candidate->stream_id - stream), NULL);
  g_free(line);
}

static void on_gathered(NiceAgent *a, guint s, gpointer data) { emit("t", "eoc", "m", number(s - stream), NULL); }

static void on_state(NiceAgent *a, guint s, guint component, guint state, gpointer data) {
  emit("t", "state", "s", nice_component_state_to_string(state), NULL);
  if (state == NICE_COMPONENT_STATE_FAILED) emit("t", "failed", "e", "component failed", NULL);
  NiceCandidate *local, *remote;
  if (state != NICE_COMPONENT_STATE_READY || ++ready < streams * components || connected) return;
  if (!nice_agent_get_selected_pair(agent, stream, 1, &local, &remote)) return;
  connected = TRUE;
  char *local_text = nice_agent_generate_local_candidate_sdp(agent, local);
  char *remote_text = nice_agent_generate_local_candidate_sdp(agent, remote);
  char *ms = g_strdup_printf("%.1f", (g_get_monotonic_time() - started) / 1000.0);
  size_t prefix = strlen("a=candidate:");
  emit("t", "connected", "local", local_text + prefix, "remote", remote_text + prefix, "ms", ms, NULL);
  g_free(local_text);
  g_free(remote_text);
  g_free(ms);
}

static void on_data(NiceAgent *a, guint s, guint component, guint length, gchar *bytes, gpointer data) {
  char *text = g_strndup(bytes, length);
  emit("t", "recv", "d", g_utf8_validate(text, -1, NULL) ? text : "<binary>", "m", number(s - stream), "k",
       number(component), NULL);
  g_free(text);
}

static void add_candidate(guint s, const char *line) {
  char *text = g_strconcat("a=", line, NULL);
  NiceCandidate *candidate = nice_agent_parse_remote_candidate_sdp(agent, s, text);
  g_free(text);
  if (!candidate) return emit("t", "warn", "e", "cannot parse candidate", NULL);
  GSList *list = g_slist_append(NULL, candidate);
  nice_agent_set_remote_candidates(agent, s, candidate->component_id, list);
  g_slist_free_full(list, (GDestroyNotify)nice_candidate_free);
}

static void on_message(JsonObject *message) {
  const char *kind = json_object_get_string_member(message, "t");
  guint s = stream + (json_object_has_member(message, "m") ? atoi(json_object_get_string_member(message, "m")) : 0);
  guint component = json_object_has_member(message, "k") ? atoi(json_object_get_string_member(message, "k")) : 1;
  if (!strcmp(kind, "params")) {
    started = g_get_monotonic_time();
    nice_agent_set_remote_credentials(agent, s, json_object_get_string_member(message, "ufrag"),
                                      json_object_get_string_member(message, "pwd"));
  } else if (!strcmp(kind, "cand")) {
    add_candidate(s, json_object_get_string_member(message, "c"));
  } else if (!strcmp(kind, "eoc")) {
    nice_agent_peer_candidate_gathering_done(agent, s);
  } else if (!strcmp(kind, "send")) {
    const char *text = json_object_get_string_member(message, "d");
    nice_agent_send(agent, s, component, strlen(text), text);
  } else if (!strcmp(kind, "close")) {
    g_main_loop_quit(loop);
  }
}

static gboolean on_input(GIOChannel *channel, GIOCondition condition, gpointer data) {
  char *line = NULL;
  if (g_io_channel_read_line(channel, &line, NULL, NULL, NULL) != G_IO_STATUS_NORMAL) {
    g_main_loop_quit(loop);
    return FALSE;
  }
  JsonParser *parser = json_parser_new();
  if (json_parser_load_from_data(parser, line, -1, NULL)) {
    on_message(json_node_get_object(json_parser_get_root(parser)));
  }
  g_object_unref(parser);
  g_free(line);
  return TRUE;
}

// Cuts "host:port" in two and gives the port.
static int split_port(char *text) {
  char *colon = strrchr(text, ':');
  *colon = 0;
  return atoi(colon + 1);
}

static void add_bind_addresses(void) {
  char **addresses = g_strsplit(bind_to, ",", -1);
  for (int i = 0; addresses[i]; i++) {
    NiceAddress address;
    nice_address_init(&address);
    nice_address_set_from_string(&address, addresses[i]);
    nice_agent_add_local_address(agent, &address);
  }
  g_strfreev(addresses);
}

int main(int argc, char **argv) {
  GOptionContext *context = g_option_context_new("");
  g_option_context_add_main_entries(context, options, NULL);
  if (!g_option_context_parse(context, &argc, &argv, NULL)) return 2;
  loop = g_main_loop_new(NULL, FALSE);
  agent = nice_agent_new_full(NULL, NICE_COMPATIBILITY_RFC5245,
                              NICE_AGENT_OPTION_CONSENT_FRESHNESS | NICE_AGENT_OPTION_ICE_TRICKLE);
  g_object_set(agent, "upnp", FALSE, "ice-tcp", tcp_only, "ice-udp", !tcp_only, "controlling-mode", !strcmp(role, "controlling"), "force-relay",
               !strcmp(policy, "relay"), NULL);
  if (bind_to) add_bind_addresses();
  if (stun) {
    int port = split_port(stun);
    g_object_set(agent, "stun-server", stun, "stun-server-port", port, NULL);
  }
  g_signal_connect(agent, "new-candidate-full", G_CALLBACK(on_candidate), NULL);
  g_signal_connect(agent, "candidate-gathering-done", G_CALLBACK(on_gathered), NULL);
  g_signal_connect(agent, "component-state-changed", G_CALLBACK(on_state), NULL);
  int turn_port = turn ? split_port(turn) : 0;
  NiceRelayType type = !strcmp(transport, "tcp")   ? NICE_RELAY_TYPE_TURN_TCP
                       : !strcmp(transport, "tls") ? NICE_RELAY_TYPE_TURN_TLS
                                                   : NICE_RELAY_TYPE_TURN_UDP;
  for (int i = 0; i < streams; i++) {
    guint s = nice_agent_add_stream(agent, components);
    if (i == 0) stream = s;
    for (int component = 1; component <= components; component++) {
      if (turn) nice_agent_set_relay_info(agent, s, component, turn, turn_port, user, pass, type);
      nice_agent_attach_recv(agent, s, component, NULL, on_data, NULL);
    }
    char *ufrag, *pwd;
    nice_agent_get_local_credentials(agent, s, &ufrag, &pwd);
    emit("t", "params", "ufrag", ufrag, "pwd", pwd, "m", number(i), NULL);
  }
  for (int i = 0; i < streams; i++) {
    if (nice_agent_gather_candidates(agent, stream + i)) continue;
    emit("t", "failed", "e", "cannot gather", NULL);
    return 1;
  }
  g_io_add_watch(g_io_channel_unix_new(0), G_IO_IN | G_IO_HUP, on_input, NULL);
  g_main_loop_run(loop);
  return 0;
}
