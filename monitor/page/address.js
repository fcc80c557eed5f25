export default {
  template: "<span hidden></span>",
  props: { round: Number, pulse: Number, query: String },
  mounted() {
    this.moved = () => this.$emit("moved", { query: window.location.search });
    this.seen = () => this.$emit("seen", { visible: !document.hidden });
    window.addEventListener("monitor:moved", this.moved);
    window.addEventListener("popstate", this.moved);
    document.addEventListener("visibilitychange", this.seen);
    document.getElementById("before")?.remove();
    window.monitorPage.arrived();
    // The reader may have moved before there was anything to hear it.
    if (window.location.search.slice(1) !== this.query) window.monitorPage.move();
  },
  unmounted() {
    window.removeEventListener("monitor:moved", this.moved);
    window.removeEventListener("popstate", this.moved);
    document.removeEventListener("visibilitychange", this.seen);
  },
  watch: {
    round() {
      window.monitorPage.arrived();
    },
    pulse() {
      window.monitorPage.heard();
    },
  },
};
